"""Make tide.json: random boxes, and the counts and AP costs of errors that tidecv 1.0.1 gives for them.

Run by hand, in an environment made for it: the package is no dependency of this project.

    uv venv /tmp/golden && uv pip install --python /tmp/golden tidecv==1.0.1
    /tmp/golden/bin/python tests/evaluation/golden/make_tide.py

A case is a list of objects [image, class, x, y, w, h] and of detections [image, class, score, x, y, w, h].
"""

import json
from pathlib import Path

import numpy as np
from tidecv import TIDE, Data

NAMES = {
    "Cls": "classification",
    "Loc": "localisation",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}
NUM_CASES, NUM_CLASSES, NUM_IMAGES = 30, 4, 12


def make_case(seed):
    rng = np.random.default_rng(seed)
    objects, detections = [], []
    for image in range(NUM_IMAGES):
        for _ in range(rng.integers(0, 6)):
            objects.append([image, int(rng.integers(0, NUM_CLASSES)), *rng.uniform(0, 90, 2), *rng.uniform(20, 60, 2)])
    for image, label, *box in objects:
        for _ in range(rng.integers(0, 4)):
            near = (np.array(box) + rng.normal(0, rng.choice([3, 12]), 4)).clip(1)
            detections.append([image, label if rng.random() < 0.7 else int(rng.integers(0, NUM_CLASSES)), *near])
    for _ in range(20):
        detections.append([*rng.integers([0, 0], [NUM_IMAGES, NUM_CLASSES]).tolist(), *rng.uniform(10, 90, 4)])
    scores = rng.choice(np.arange(20, 10000), len(detections), replace=False) / 10000
    detections = [[d[0], d[1], float(s), *d[2:]] for d, s in zip(detections, scores, strict=True)]
    return {"objects": rounded(objects, 2), "detections": rounded(detections, 3)}


def few_objects(case):
    """At most 9 of a class. tidecv takes recalls at i / 100, COCO at linspace's numbers, which differ in the last bit
    for some; a recall of 7/10 falls between the two. With up to 9 objects none does."""
    return max(sum(o[1] == c for o in case["objects"]) for c in range(NUM_CLASSES)) < 10


def rounded(rows, whole):
    return [[*row[:whole], *(round(float(v), 1) for v in row[whole:])] for row in rows]


def measure(case):
    truth, found = Data("truth"), Data("found", max_dets=1000)
    for data in (truth, found):
        for c in range(NUM_CLASSES):
            data.add_class(c, str(c))
        for image in range(NUM_IMAGES):
            data.add_image(image, str(image))
    for image, label, *box in case["objects"]:
        truth.add_ground_truth(image, label, box)
    for image, label, score, *box in case["detections"]:
        found.add_detection(image, label, score, box)
    tide = TIDE()
    run = tide.evaluate(truth, found, mode=TIDE.BOX)
    cost = run.fix_main_errors()
    counts = {error.short_name: len(items) for error, items in run.error_dict.items()}
    return {
        "AP50": float(run.ap),
        "types": {
            name: [counts.get(short, 0), float(next(v for e, v in cost.items() if e.short_name == short))]
            for short, name in NAMES.items()
        },
    }


def main():
    cases = [case for case in map(make_case, range(10 * NUM_CASES)) if few_objects(case)][:NUM_CASES]
    lines = [json.dumps(case | {"expected": measure(case)}, separators=(",", ":")) for case in cases]
    path = Path(__file__).with_name("tide.json")
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{len(cases)} cases in {path}")


if __name__ == "__main__":
    main()
