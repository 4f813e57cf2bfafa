"""Precision, recall and F1 at one confidence for all classes (E16): pure numpy, from matches at IoU 0.5.

Conventions, all of them choices that move the numbers:

- A detection counts at confidence c when its score >= c, and enters at all from ``SCORE_FLOOR`` up.
- A class that has ground truth and no detection at c has precision 0 (not 1), recall 0, F1 0, and is averaged in.
- A class without ground truth has no precision, recall or F1 (None) and is left out of every mean.
- ``f1`` is 2PR/(P+R) of the class means of P and R, as in the paper's tables; ``f1_mean_of_classes`` is the mean
  of the classes' F1 at the same confidence; ``f1_mean_of_best`` is the mean of each class's best F1, each at a
  confidence of its own. They differ by points: never compare one with another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SCORE_FLOOR = 0.001
NUM_CONFIDENCES = 1000
CONFIDENCES = np.linspace(0.0, 1.0, NUM_CONFIDENCES)
SMOOTHING = 0.1


@dataclass(frozen=True)
class ClassMatches:
    """One class's detections after matching at IoU 0.5, those matched to ignored ground truth left out.

    ``scores`` (N,) float, 0..1, any order; ``true_positive`` (N,) bool; ``num_gt`` number of objects that count.
    """

    scores: np.ndarray
    true_positive: np.ndarray
    num_gt: int


def f1_score(precision: float, recall: float) -> float:
    """F1 = 2PR / (P + R) (E16), 0 where both are 0; in the unit of its arguments."""
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def counts_above(matches: ClassMatches, confidences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives with score >= c, for each c.

    ``confidences`` (T,) float, 0..1. Returns two (T,) int arrays.
    """

    def count(scores: np.ndarray) -> np.ndarray:
        scores = np.sort(scores[scores >= SCORE_FLOOR])
        return scores.size - np.searchsorted(scores, confidences, side="left")

    return count(matches.scores[matches.true_positive]), count(matches.scores[~matches.true_positive])


def rates(tp: np.ndarray, fp: np.ndarray, num_gt: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P = TP/(TP+FP), R = TP/(TP+FN), F1 = 2PR/(P+R) (E16) from counts; P is 0 where nothing is detected.

    ``tp``, ``fp`` (T,) int; ``num_gt`` > 0. Returns three (T,) float arrays, 0..1.
    """
    # 2TP / (2TP + FP + FN) is 2PR/(P+R) without its division by zero, since TP + FN = num_gt > 0.
    return tp / np.maximum(tp + fp, 1), tp / num_gt, 2 * tp / (tp + fp + num_gt)


def smooth(curve: np.ndarray, fraction: float = SMOOTHING) -> np.ndarray:
    """Moving average over an odd window of about ``fraction`` of the curve, the ends repeated.

    ``curve`` (T,) float. Returns (T,) float. At 1000 points and 0.1 the window is 101 points wide.
    """
    half = round(len(curve) * fraction / 2)
    padded = np.pad(curve, half, mode="edge")
    return np.convolve(padded, np.full(2 * half + 1, 1 / (2 * half + 1)), mode="valid")


def best_confidence(mean_f1: np.ndarray, confidences: np.ndarray) -> float:
    """The confidence at which the smoothed class-mean F1 curve is highest; the lowest one where several are.

    ``mean_f1``, ``confidences`` (T,) float, 0..1. A curve that is 0 everywhere gives the first confidence.
    """
    # Rounded, because the sums of a plateau differ in the last bit and would pick a point of it at random.
    return float(confidences[np.argmax(np.round(smooth(mean_f1), 12))])


def rates_at(matches: Mapping[str, ClassMatches], confidence: float | None) -> dict:
    """Precision, recall, F1 (percent) at one confidence: class means, and per class with the counts behind them.

    ``confidence`` in 0..1, or None where no class has ground truth and thus nothing chose one: every number is None.
    """
    per_class = {name: _class_rates_at(m, confidence) for name, m in matches.items()}
    precision, recall, mean_f1 = (
        _mean([values[key] for values in per_class.values()]) for key in ("precision", "recall", "f1")
    )
    return {
        "confidence": confidence,
        "precision": precision,
        "recall": recall,
        "f1": None if precision is None else f1_score(precision, recall),
        "f1_mean_of_classes": mean_f1,
        "per_class": per_class,
    }


def operating_point(matches: Mapping[str, ClassMatches], fixed_confidence: float = 0.5) -> dict:
    """P, R, F1 at the one confidence that maximises the smoothed class-mean F1 (E16), and at a fixed confidence.

    ``matches``: class name -> ClassMatches. ``fixed_confidence`` in 0..1. Returns rates in percent, confidences in
    0..1: ``confidence, precision, recall, f1, f1_mean_of_classes, f1_mean_of_best``, ``per_class`` (with
    ``true_positives, false_positives, missed, best_f1, best_f1_confidence``) and ``at_fixed_confidence`` (the same
    without the best). Without any ground truth every rate, and the confidence, is None.
    """
    if not 0.0 <= fixed_confidence <= 1.0:
        raise ValueError(f"fixed_confidence={fixed_confidence} is no score: give a number from 0 to 1, such as 0.5")
    curves = class_curves(matches)
    confidence = best_confidence(np.mean([f1 for _, _, f1 in curves.values()], axis=0), CONFIDENCES) if curves else None

    result = rates_at(matches, confidence)
    for name, values in result["per_class"].items():
        values |= best_f1(curves[name][2] if name in curves else None)
    result["f1_mean_of_best"] = _mean([values["best_f1"] for values in result["per_class"].values()])
    result["at_fixed_confidence"] = rates_at(matches, float(fixed_confidence))
    return result


def class_curves(matches: Mapping[str, ClassMatches]) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """P, R and F1 at each of ``CONFIDENCES`` of every class that has ground truth: three (1000,) float, 0..1."""
    return {n: rates(*counts_above(m, CONFIDENCES), m.num_gt) for n, m in matches.items() if m.num_gt > 0}


def best_f1(curve: np.ndarray | None) -> dict[str, float | None]:
    """``best_f1`` (percent) and ``best_f1_confidence`` of a class's F1 over ``CONFIDENCES``; None without a curve."""
    if curve is None:
        return {"best_f1": None, "best_f1_confidence": None}
    return {"best_f1": 100 * float(curve.max()), "best_f1_confidence": float(CONFIDENCES[curve.argmax()])}


def _class_rates_at(matches: ClassMatches, confidence: float | None) -> dict:
    if confidence is None:
        return dict.fromkeys(("precision", "recall", "f1", "true_positives", "false_positives", "missed"))
    tp, fp = counts_above(matches, np.array([confidence]))
    p, r, f1 = (100 * float(x[0]) for x in rates(tp, fp, matches.num_gt)) if matches.num_gt > 0 else (None, None, None)
    counts = {"true_positives": int(tp[0]), "false_positives": int(fp[0]), "missed": matches.num_gt - int(tp[0])}
    return {"precision": p, "recall": r, "f1": f1, **counts}


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def confidence_curves(matches: Mapping[str, ClassMatches]) -> dict:
    """P, R and F1 over 1,000 confidences, for plots.

    ``matches`` of ``TaskMatches.class_matches``. Returns ``{"confidence": [1000], "per_class": {name: {"precision",
    "recall", "f1"} or None}, "mean_f1": [1000], "smoothed_mean_f1": [1000]}``, all 0..1; classes without ground truth
    are None, and so are the means if all are.
    """
    curves = class_curves(matches)
    mean = np.mean([f1 for _, _, f1 in curves.values()], axis=0) if curves else None
    keys = ("precision", "recall", "f1")
    per_class = {
        n: dict(zip(keys, (c.tolist() for c in curves[n]), strict=True)) if n in curves else None for n in matches
    }
    return {
        "confidence": CONFIDENCES.tolist(),
        "per_class": per_class,
        "mean_f1": None if mean is None else mean.tolist(),
        "smoothed_mean_f1": None if mean is None else smooth(mean).tolist(),
    }
