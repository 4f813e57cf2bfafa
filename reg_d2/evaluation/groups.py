"""Averages apart: by object size, and by how often a class was in training (head, middle, tail)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .operating_point import f1_score

FREQUENCY_GROUPS = ("head", "middle", "tail")
COUNTS = ("num_gt", "true_positives", "false_positives", "missed")


def frequency_groups(train_counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Split classes into thirds by training count: ``head`` (most objects), ``middle``, ``tail``.

    ``train_counts``: class name -> objects in the training set. Sizes differ by one at most, the larger parts first;
    of equal counts the first name in the alphabet comes first.
    """
    falling = sorted(train_counts, key=lambda name: (-train_counts[name], name))
    parts = np.array_split(np.arange(len(falling)), len(FREQUENCY_GROUPS))
    return {group: [falling[i] for i in part] for group, part in zip(FREQUENCY_GROUPS, parts, strict=True)}


def by_frequency(per_class: Mapping[str, Mapping], train_counts: Mapping[str, int]) -> dict[str, dict]:
    """The numbers of a task averaged over the head, middle and tail classes apart.

    ``per_class``: of ``evaluate_detections``. ``train_counts``: for each of those classes. Returns for each group
    ``classes``, ``train_counts``, the means ``AP, AP50, precision, recall``, ``f1`` of the means,
    ``f1_mean_of_classes``, ``f1_mean_of_best``, and the sums ``num_gt, true_positives, false_positives, missed``.
    Classes without ground truth are left out of the means; None where none has any. Raises ValueError for a class
    without a training count.
    """
    if missing := [name for name in per_class if name not in train_counts]:
        raise ValueError(f"train_counts has no number for {missing}: give one for each class, it has {[*train_counts]}")
    groups = frequency_groups({name: train_counts[name] for name in per_class})
    return {
        group: {
            "classes": names,
            "train_counts": [int(train_counts[name]) for name in names],
            **_means([per_class[name] for name in names]),
        }
        for group, names in groups.items()
    }


def _means(classes: Sequence[Mapping]) -> dict:
    def mean(key: str) -> float | None:
        known = [c[key] for c in classes if c[key] is not None]
        return float(np.mean(known)) if known else None

    result = {key: mean(key) for key in ("AP", "AP50", "precision", "recall")}
    result["f1"] = None if result["precision"] is None else f1_score(result["precision"], result["recall"])
    result["f1_mean_of_classes"], result["f1_mean_of_best"] = mean("f1"), mean("best_f1")
    return result | {key: sum(c[key] or 0 for c in classes) for key in COUNTS}
