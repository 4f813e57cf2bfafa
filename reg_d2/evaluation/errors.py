"""What kinds of errors a detector makes, and the AP that each costs (TIDE).

Source: Bolya, Foley, Hays, Hoffman: TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020.
"""

from __future__ import annotations

import numpy as np

from .average_precision import class_order, interpolated_precision
from .matching import TaskMatches

FOREGROUND, BACKGROUND = 0.5, 0.1
TYPES = ("classification", "localisation", "both", "duplicate", "background", "missed")


def error_types(matches: TaskMatches, confidence: float | None = None) -> dict:
    """Sort every false positive and miss into one of six types; give the AP50 that mending each type alone would add.

    With IoU to the best object, t_f = 0.5 and t_b = 0.1, a false positive is the first of these that applies:

    - ``localisation``: t_b <= IoU < t_f with its own class; mended by moving it onto the object;
    - ``classification``: IoU >= t_f with another class; mended by giving it that class;
    - ``duplicate``: IoU >= t_f with its own class, the object taken by a higher score; mended by removing it;
    - ``background``: IoU < t_b with every object; mended by removing it;
    - ``both``: the rest (t_b <= IoU < t_f with another class); mended by removing it.

    ``missed``: an object that is not found and that no localisation or classification error points at; mended by
    removing it from the ground truth. Of several errors that point at one object, of both types, that of highest score
    is mended onto it; the others are removed, as are those whose object is found already. A class whose every object
    is missed drops out of the mean; if all do, mending the misses gives 100. Counts and costs are those of tidecv
    1.0.1 where there are no crowd regions.

    Detections of any score count, since all of them make AP. ``confidence``: if given, types also have
    ``count_at_confidence``, the false positives with at least this score.

    Returns ``AP50`` (0..100, None without ground truth) and ``types``: type -> ``count`` and ``ap_cost`` (points).
    """
    kind, target, missed = _sort_errors(matches)
    scores, right, classes = matches.det_score, matches.matched[0, 0] >= 0, matches.det_class
    counts = ~matches.det_ignored[0, 0]
    num_gt = matches.num_gt()
    ap = _ap50(matches, classes, right, counts, num_gt)

    mendable = _first_on_free_object(matches, target, right & counts)
    types = {}
    for i, name in enumerate(TYPES):
        wrong = kind == i
        if name == "missed":
            mended = _ap50(matches, classes, right, counts, num_gt - missed)
            mended = 100.0 if mended is None else mended
            count = int(missed.sum())
        else:
            becomes_right = wrong & mendable
            new_class = np.where(becomes_right, np.append(matches.gt_class, 0)[target], classes)
            mended = _ap50(matches, new_class, right | becomes_right, counts & ~(wrong & ~becomes_right), num_gt)
            count = int(wrong.sum())
        types[name] = {"count": count, "ap_cost": None if ap is None else mended - ap}
        if confidence is not None and name != "missed":
            types[name]["count_at_confidence"] = int((wrong & (scores >= confidence)).sum())
    return {"AP50": ap, "types": types}


def _sort_errors(matches: TaskMatches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Type of each detection (D,), -1 where it is none; object that it would be mended onto (D,), -1 for none; number
    of missed objects of each class (K,)."""
    num_det = len(matches.det_score)
    real = ~matches.gt_ignored[0][matches.pair_gt]
    d, g, iou = matches.pair_det[real], matches.pair_gt[real], matches.pair_iou[real]
    same = matches.det_class[d] == matches.gt_class[g]
    own_iou, own = _best(d[same], g[same], iou[same], num_det)
    other_iou, other = _best(d[~same], g[~same], iou[~same], num_det)

    false_positive = ~matches.det_ignored[0, 0] & (matches.matched[0, 0] < 0)
    conditions = {
        "localisation": (own_iou >= BACKGROUND) & (own_iou < FOREGROUND),
        "classification": other_iou >= FOREGROUND,
        "duplicate": own_iou >= FOREGROUND,
        "background": np.maximum(own_iou, other_iou) < BACKGROUND,
        "both": np.ones(num_det, dtype=bool),
    }
    codes = [TYPES.index(name) for name in conditions]
    kind = np.where(false_positive, np.select(list(conditions.values()), codes), -1)
    target = np.select([kind == TYPES.index("localisation"), kind == TYPES.index("classification")], [own, other], -1)

    free = ~matches.gt_ignored[0]
    found = matches.matched[0, 0][~matches.det_ignored[0, 0]]
    free[found[found >= 0]] = False
    free[target[target >= 0]] = False
    return kind, target, np.bincount(matches.gt_class[free], minlength=len(matches.names))


def _best(d: np.ndarray, g: np.ndarray, iou: np.ndarray, num_det: int) -> tuple[np.ndarray, np.ndarray]:
    """Highest IoU of each detection, 0 without any, and its object, -1 without any."""
    best_iou, best = np.zeros(num_det), np.full(num_det, -1)
    order = np.argsort(iou, kind="stable")  # the last of a detection's assignments stays
    best_iou[d[order]], best[d[order]] = iou[order], g[order]
    return best_iou, best


def _first_on_free_object(matches: TaskMatches, target: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(D,) bool: the errors that can become right, the most confident one of each object that nothing has found."""
    free = np.ones(len(matches.gt_class), dtype=bool)
    free[matches.matched[0, 0][found]] = False
    candidates = np.flatnonzero(target >= 0)
    candidates = candidates[free[target[candidates]]]
    candidates = candidates[np.argsort(-matches.det_score[candidates], kind="stable")]
    result = np.zeros(len(target), dtype=bool)
    result[candidates[np.unique(target[candidates], return_index=True)[1]]] = True
    return result


def _ap50(
    matches: TaskMatches, classes: np.ndarray, right: np.ndarray, counts: np.ndarray, num_gt: np.ndarray
) -> float | None:
    values = []
    for k in np.flatnonzero(num_gt > 0):
        of_class = class_order(classes, matches.det_score, k)
        values.append(interpolated_precision(right[of_class], counts[of_class], num_gt[k]).mean())
    return 100 * float(np.mean(values)) if values else None
