"""The first lines of a report: what its numbers say, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bars import ERROR_LABELS
from .run import Run
from .tables import difference_mark, number

METRIC_NAMES = {"AP": "AP", "AP50": "AP50", "f1": "F1"}


def findings(runs: Sequence[Run]) -> list[str]:
    """Of one run: its weakest classes, its errors, what it finds in nothing. Of several: which is better at what."""
    return _of_one(runs[0]) if len(runs) == 1 else [s for run in runs[1:] for s in _of_two(runs[0], run)]


def _of_one(run: Run) -> list[str]:
    task = run.main_task
    values, result = run.results[task], []
    known = {n: c for n, c in values["per_class"].items() if c["AP50"] is not None}
    if not known:
        return ["The data set has no ground truth to measure on."]
    weakest = sorted(known, key=lambda n: known[n]["AP50"])[:3]
    listed = ", ".join(f"{n} ({number(known[n]['AP50'], 1)}, {known[n]['num_gt']} objects)" for n in weakest)
    result.append(f"Weakest classes by AP50: {listed}.")
    costs = {k: v["ap_cost"] for k, v in values["errors"]["types"].items() if v["ap_cost"]}
    if costs:
        worst = max(costs, key=costs.get)
        count = number(values["errors"]["types"][worst]["count"])
        result.append(f"Dearest error: {ERROR_LABELS[worst]} ({count}), {costs[worst]:.1f} points of AP50.")
    total = {k: sum(c[k] or 0 for c in known.values()) for k in ("missed", "num_gt", "false_positives")}
    if values["confidence"] is not None:
        result.append(
            f"At confidence {values['confidence']:.2f} it misses {number(total['missed'])} of "
            f"{number(total['num_gt'])} objects and {number(total['false_positives'])} of its detections are wrong."
        )
    empty = values["empty_images"]
    if empty["images"] and empty["detections"] is not None:
        count, images = number(empty["detections"]), number(empty["images_with_detections"])
        found = f"something in {images} of them, detections: {count}" if empty["detections"] else "nothing in them"
        result.append(f"Images without objects: {number(empty['images'])}. It finds {found}.")
    matrix = np.array(values["confusion"]["matrix"])[:-1, :-1]
    np.fill_diagonal(matrix, 0)
    if matrix.size and matrix.max() > 0:
        i, j = np.unravel_index(matrix.argmax(), matrix.shape)
        names = values["confusion"]["classes"]
        result.append(f"Commonest confusion: {names[i]} taken for {names[j]}, {matrix[i, j]} times.")
    ece = values["calibration"]["ece"]
    if ece is not None:
        result.append(f"Scores are off by {ece:.1f} percentage points on average (expected calibration error).")
    return result


def _of_two(base: Run, run: Run) -> list[str]:
    if not run.differences:
        return [f"Without bootstrap nothing can be said on whether {run.name} and {base.name} differ."]
    result = []
    for task, of_task in run.differences.items():
        what = {"bbox": "boxes", "segm": "masks"}.get(task)
        if what is None:
            continue
        for metric, label in METRIC_NAMES.items():
            values = of_task[metric]
            if values["difference"] is None:
                continue
            interval = f"{values['low']:+.1f} to {values['high']:+.1f}, p {values['p_value']:.3f}"
            mark = difference_mark(values)
            if mark:
                verdict = f"{run.name} is {mark} than {base.name} by {abs(values['difference']):.1f} points"
            else:
                verdict = f"no difference shown between {run.name} and {base.name} ({values['difference']:+.1f})"
            result.append(f"{label}, {what}: {verdict} (95% interval {interval}).")
    return result
