"""pycocotools by the book: what the COCO numbers are held to."""

import copy

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def pycocotools_eval(truth, detections, task, names, box_only_ignored=False):
    """The reference: pycocotools by the book, given the ground truth as the documentation says it is read."""
    truth, detections = copy.deepcopy(truth), copy.deepcopy(detections)
    keep = {c["id"] for c in truth["categories"] if c["name"] in names}
    truth["annotations"] = [a for a in truth["annotations"] if a["category_id"] in keep]
    if task == "segm":
        for a in truth["annotations"]:
            if box_only_ignored and "segmentation" not in a:
                x, y, w, h = a["bbox"]
                a |= {"iscrowd": 1, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}
        detections = [d for d in detections if "segmentation" in d]
        for d in detections:
            d.pop("bbox")
    gt = COCO()
    gt.dataset = truth
    gt.createIndex()
    reference = COCOeval(gt, gt.loadRes(detections), task)
    reference.params.catIds = sorted(keep)
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    return reference


def pycocotools_class(reference, k):
    """AP, AP50 of the k-th class, -1 where it has no ground truth."""
    precision = reference.eval["precision"][:, :, k, 0, 2]
    return [100 * p[p > -1].mean() if (p > -1).any() else -1.0 for p in (precision, precision[0])]


def assert_equal(value, expected):
    if expected <= -1:
        assert value is None
    else:
        assert value == pytest.approx(expected, abs=1e-9)
