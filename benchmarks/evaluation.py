"""How long evaluation takes, on drawn-at-random data: python benchmarks/evaluation.py

Prints, for 2,000 images x 20 detections x 11 classes by default: all numbers of boxes and masks; the bootstrap; box AP
beside pycocotools. Times are the best of three (bootstrap: one), wall-clock, everything in memory at the start.
"""

import argparse
import contextlib
import io
import time
from collections.abc import Callable

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from reg_d2.evaluation.average_precision import precision_table
from reg_d2.evaluation.bootstrap import bootstrap
from reg_d2.evaluation.coco import evaluate_detections, match_detections
from reg_d2.evaluation.summary import average_precisions

HEIGHT, WIDTH = 540, 960
OBJECTS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--detections", type=int, default=20, help="of an image")
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args()
    truth, detections = random_data(args.images, args.detections, args.classes)
    print(f"{args.images} images, {len(truth['annotations'])} objects, {len(detections)} detections")

    ours, value = best_of(lambda: box_ap(truth, detections))
    theirs, reference = best_of(lambda: pycocotools_box_ap(truth, detections))
    print(f"box AP          {ours:7.2f} s   {value:.9f}")
    print(f"  pycocotools   {theirs:7.2f} s   {reference:.9f}   {theirs / ours:.1f} times as long")
    seconds, results = best_of(lambda: evaluate_detections(truth, detections))
    print(f"all numbers     {seconds:7.2f} s   mask AP {results['segm']['AP']:.2f}")
    evaluation = match_detections(truth, detections)
    seconds, intervals = best_of(lambda: bootstrap(evaluation, resamples=args.resamples), times=1)
    ap = intervals["bbox"]["AP"]
    print(f"bootstrap       {seconds:7.2f} s   box AP {ap['value']:.2f} [{ap['low']:.2f}, {ap['high']:.2f}]")


def random_data(images: int, detections: int, classes: int) -> tuple[dict, list[dict]]:
    """Ellipses as objects; half of the detections near an object, the others anywhere."""
    rng = np.random.default_rng(0)
    annotations, found = [], []
    for image in range(images):
        boxes = random_boxes(rng, OBJECTS)
        labels = rng.integers(0, classes, OBJECTS)
        for box, label in zip(boxes, labels, strict=True):
            mask = ellipse(box)
            ann = {"id": len(annotations) + 1, "image_id": image, "category_id": int(label), "iscrowd": 0}
            annotations.append(ann | {"bbox": box.tolist(), "area": float(mask_util.area(mask)), "segmentation": mask})
        near = rng.integers(0, OBJECTS, detections // 2)
        sizes = boxes[near][:, [2, 3, 2, 3]]
        moved = boxes[near] + rng.normal(0, 0.08, (len(near), 4)) * sizes
        for box, label in zip(
            np.concatenate([moved, random_boxes(rng, detections - len(near))]),
            np.concatenate([labels[near], rng.integers(0, classes, detections - len(near))]),
            strict=True,
        ):
            box = inside(box)
            det = {"image_id": image, "category_id": int(label), "bbox": box.tolist(), "score": float(rng.random())}
            found.append(det | {"segmentation": ellipse(box)})
    return {
        "images": [{"id": i, "height": HEIGHT, "width": WIDTH} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": c, "name": f"class {c}"} for c in range(classes)],
    }, found


def random_boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    size = np.exp(rng.uniform(np.log(16), np.log(256), (number, 2)))
    return np.concatenate([rng.uniform(0, [WIDTH, HEIGHT] - size), size], axis=1)


def inside(box: np.ndarray) -> np.ndarray:
    low = np.clip(box[:2], 0, [WIDTH - 4, HEIGHT - 4])
    return np.concatenate([low, np.clip(box[2:], 4, [WIDTH, HEIGHT] - low)])


def ellipse(box: np.ndarray) -> dict:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = box[:2] + box[2:] / 2 * (1 + np.stack([np.cos(angle), np.sin(angle)], axis=1))
    rle = mask_util.frPyObjects([points.ravel().tolist()], HEIGHT, WIDTH)[0]
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode("ascii")}


def box_ap(truth: dict, detections: list[dict]) -> float:
    matches = match_detections(truth, detections, tasks=["bbox"]).tasks["bbox"]
    return average_precisions(precision_table(matches))["AP"]


def pycocotools_box_ap(truth: dict, detections: list[dict]) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        boxes = [{k: v for k, v in d.items() if k != "segmentation"} for d in detections]
        evaluator = COCOeval(gt, gt.loadRes(boxes), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return 100 * float(evaluator.stats[0])


def best_of(function: Callable, times: int = 3) -> tuple[float, object]:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


if __name__ == "__main__":
    main()
