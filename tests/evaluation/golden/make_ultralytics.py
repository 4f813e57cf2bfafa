"""Make ultralytics.json: random detections, and the numbers that the package ultralytics 8.2.90 gives for them.

Run by hand, in an environment made for it and thrown away after: the package is AGPL and no dependency of this
project; only its numbers are kept.

    uv venv /tmp/golden && uv pip install --python /tmp/golden ultralytics==8.2.90
    /tmp/golden/bin/python tests/evaluation/golden/make_ultralytics.py

A case is a list of objects [image, class, x, y, w, h] and of detections [image, class, score, x, y, w, h].
"""

import json
from pathlib import Path

import numpy as np
import torch
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils.metrics import ap_per_class, box_iou, smooth

NUM_CASES = 60
NUM_CLASSES = 5
KINDS = ("plain", "rare", "absent", "crowded", "low recall", "no detections of a class")


def make_case(seed):
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    objects, boxes = [], []
    for image in range(8):
        for _ in range(rng.integers(8, 14) if kind == "crowded" else rng.integers(0, 6)):
            label = int(rng.integers(0, NUM_CLASSES))
            if kind == "rare" and label == 4 and any(o[1] == 4 for o in objects):
                label = 0
            if kind == "absent" and label == 4:
                label = 1
            size = rng.uniform(20, 60, 2)
            box = [*rng.uniform(0, 60 if kind == "crowded" else 140, 2), *size]
            objects.append([image, label, *box])
    for image, label, *box in objects:
        for _ in range(rng.integers(0, 2 if kind == "low recall" else 4)):
            near = np.array(box) + rng.normal(0, 5, 4)
            boxes.append([image, label if rng.random() < 0.85 else int(rng.integers(0, NUM_CLASSES)), *near.clip(1)])
    for _ in range(15):
        boxes.append([*rng.integers([0, 0], [8, NUM_CLASSES]).tolist(), *rng.uniform(10, 90, 4)])
    if kind == "no detections of a class":
        boxes = [b for b in boxes if b[1] != 2]
    scores = rng.choice(np.arange(20, 10000), len(boxes), replace=False) / 10000  # no ties: their order is arbitrary
    detections = [[b[0], b[1], float(s), *b[2:]] for b, s in zip(boxes, scores, strict=True)]
    return {"kind": kind, "objects": rounded(objects, 2), "detections": rounded(detections, 3)}


def rounded(rows, whole):
    return [[*row[:whole], *(round(float(v), 1) for v in row[whole:])] for row in rows]


def xyxy(rows):
    boxes = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


def measure(case):
    validator = BaseValidator.__new__(BaseValidator)
    validator.iouv = torch.linspace(0.5, 0.95, 10, dtype=torch.float64)
    correct, scores, labels = [], [], []
    for image in range(8):
        objects = [o for o in case["objects"] if o[0] == image]
        # Non-maximum suppression hands them over by falling score, which the matching relies on.
        found = sorted((d for d in case["detections"] if d[0] == image), key=lambda d: -d[2])
        iou = box_iou(xyxy([o[2:] for o in objects]), xyxy([d[3:] for d in found]))
        own = torch.tensor([d[1] for d in found], dtype=torch.int64)
        of_objects = torch.tensor([o[1] for o in objects], dtype=torch.int64)
        correct.append(validator.match_predictions(own, of_objects, iou).numpy())
        scores += [d[2] for d in found]
        labels += [d[1] for d in found]
    truth = np.array([o[1] for o in case["objects"]])
    result = ap_per_class(np.concatenate(correct), np.array(scores), np.array(labels), truth)
    _, _, p, r, f1, ap, classes, _, _, f1_curve, _, _ = result
    return {
        "confidence": int(smooth(f1_curve.mean(0), 0.1).argmax()) / 999,
        "AP": float(ap.mean()),
        "AP50": float(ap[:, 0].mean()),
        "precision": float(p.mean()),
        "recall": float(r.mean()),
        "f1_mean_of_classes": float(f1.mean()),
        "per_class": {
            str(c): [float(v) for v in (ap[k].mean(), ap[k, 0], p[k], r[k], f1[k])] for k, c in enumerate(classes)
        },
    }


def main():
    cases = [make_case(seed) for seed in range(NUM_CASES)]
    lines = [json.dumps(case | {"expected": measure(case)}, separators=(",", ":")) for case in cases]
    path = Path(__file__).with_name("ultralytics.json")
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{len(cases)} cases in {path}")


if __name__ == "__main__":
    main()
