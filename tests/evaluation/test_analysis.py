"""Confusion, error types, sizes, groups of classes and boundaries, by hand and against independent code."""

import contextlib
import io

import numpy as np
import pycocotools.mask as mask_util
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from scipy import ndimage

from reg_d2.evaluation.boundary import boundary_iou, boundary_quality
from reg_d2.evaluation.coco import evaluate_detections, match_detections
from reg_d2.evaluation.confusion import confusion_matrix
from reg_d2.evaluation.errors import error_types
from reg_d2.evaluation.groups import by_frequency, frequency_groups
from reg_d2.evaluation.matching import SIZES

from .reference import pycocotools_eval
from .scenes import CATEGORIES, SIZE, blob, random_scene, rle, scene

MASK_CLASSES = ["pavilion", "sign", "rail"]


def hand_made(objects, found):
    """One image; objects (category, x), detections (category, x, score) of 40 x 40 boxes at height 20."""
    truth = {
        "images": [{"id": 1, "height": SIZE[0], "width": 2000}],
        "categories": [{"id": i, "name": n} for i, n in CATEGORIES.items()],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": c, "bbox": [x, 20, 40, 40], "area": 1600, "iscrowd": 0}
            for n, (c, x) in enumerate(objects, start=1)
        ],
    }
    detections = [{"image_id": 1, "category_id": c, "bbox": [x, 20, 40, 40], "score": s} for c, x, s in found]
    return match_detections(truth, detections, tasks=["bbox"]).tasks["bbox"]


# Moved by 20 of 40 pixels a box has IoU 1/3, by 5 it has 7/9.
MATCHES = hand_made(
    objects=[(2, 0), (2, 200), (3, 400), (3, 600), (7, 800)],
    found=[
        (2, 5, 0.9),  # right
        (2, 0, 0.8),  # duplicate
        (2, 220, 0.7),  # localisation
        (2, 405, 0.6),  # classification: a sign is there
        (11, 620, 0.5),  # both: a sign is there, at IoU 1/3
        (3, 1500, 0.4),  # background
    ],
)


def test_error_types_by_hand():
    result = error_types(MATCHES, confidence=0.55)
    counts = {name: t["count"] for name, t in result["types"].items()}
    # Missed: the sign at 600 and the bus stop. Errors point at the sign at 400 and at the pavilion at 200.
    assert counts == {"classification": 1, "localisation": 1, "both": 1, "duplicate": 1, "background": 1, "missed": 2}
    assert {n for n, t in result["types"].items() if t.get("count_at_confidence") == 0} == {"both", "background"}
    # Pavilion: precision 1 up to recall 1/2 (51 of 101 recalls), then nothing; signs and bus stop have AP 0.
    pavilion = 51 / 101
    assert result["AP50"] == pytest.approx(100 * pavilion / 3)
    cost = {name: t["ap_cost"] for name, t in result["types"].items()}
    # Localisation: the third pavilion detection becomes right, at precision 2/3.
    assert cost["localisation"] == pytest.approx(100 * 50 / 101 * (2 / 3) / 3)
    # Classification: a sign at score 0.6, before the false one: precision 1 up to recall 1/2.
    assert cost["classification"] == pytest.approx(100 * 51 / 101 / 3)
    # Missed: without the bus stop there are two classes; the sign left is still not found.
    assert cost["missed"] == pytest.approx(100 * pavilion * (1 / 2 - 1 / 3))
    assert cost["duplicate"] == cost["background"] == cost["both"] == pytest.approx(0)


def test_confusion_by_hand():
    names = [*CATEGORIES.values(), "background"]
    result = confusion_matrix(MATCHES, 0.0)
    assert result["classes"] == names
    filled = {(names[i], names[j]): n for i, row in enumerate(result["matrix"]) for j, n in enumerate(row) if n}
    assert filled == {
        ("pavilion", "pavilion"): 1,
        ("sign", "pavilion"): 1,
        ("background", "pavilion"): 2,
        ("background", "rail"): 1,
        ("background", "sign"): 1,
        ("pavilion", "background"): 1,
        ("sign", "background"): 1,
        ("bus stop", "background"): 1,
    }
    confident = np.array(confusion_matrix(MATCHES, 0.85)["matrix"])
    assert confident.sum() == 5 and confident[0, 0] == 1


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_confusion_agrees_with_the_tables(seed, task):
    results = evaluate_detections(*random_scene(seed, box_only_objects=True), mask_classes=MASK_CLASSES)[task]
    matrix = np.array(results["confusion"]["matrix"])
    for k, values in enumerate(results["per_class"].values()):
        assert matrix[k, k] == values["true_positives"]
        assert matrix[k].sum() == values["num_gt"]
        assert matrix[:, k].sum() == values["true_positives"] + values["false_positives"]
    assert matrix[-1, -1] == 0 and np.trace(matrix) > 0
    if task == "bbox":
        assert matrix[:-1, :-1].sum() > np.trace(matrix)


def test_detections_in_images_without_objects_by_hand():
    truth, right = scene()
    crowd = {**truth["annotations"][0], "id": 2, "image_id": 7, "iscrowd": 1}
    truth["images"] += [{**truth["images"][0], "id": i} for i in (6, 7, 8)]
    truth["annotations"].append(crowd)
    at = lambda image, score: {**right, "image_id": image, "score": score, "bbox": [0.0, 0.0, 9.0, 9.0]}  # noqa: E731
    detections = [right, at(5, 0.9), at(6, 0.6), at(6, 0.7), at(7, 0.9), at(8, 0.1)]
    results = evaluate_detections(truth, detections)
    assert 0.1 < results["bbox"]["confidence"] <= 0.5
    assert results["bbox"]["empty_images"] == {"images": 2, "images_with_detections": 1, "detections": 2}
    assert "empty_images" not in results["segm_boxes"]
    truth["annotations"] = []
    nothing = evaluate_detections(truth, detections, tasks=["bbox"])["bbox"]["empty_images"]
    assert nothing == {"images": 4, "images_with_detections": None, "detections": None}


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_numbers_by_size_are_those_of_pycocotools(task):
    truth, detections = random_scene(2, num_images=60)
    names = list(CATEGORIES.values()) if task == "bbox" else MASK_CLASSES
    with contextlib.redirect_stdout(io.StringIO()):
        reference = pycocotools_eval(truth, detections, task, names, box_only_ignored=True)
    results = evaluate_detections(truth, detections, mask_classes=MASK_CLASSES)[task]
    for a, size in list(enumerate(SIZES))[1:]:
        area = reference.params.areaRng[a]
        for k, name in enumerate(names):
            images = [e for e in reference.evalImgs if e and e["aRng"] == area and CATEGORIES[e["category_id"]] == name]
            tp = fp = num_gt = 0
            for e in images:
                counts = ~e["dtIgnore"][0] & (np.array(e["dtScores"]) >= results["confidence"])
                tp += int((counts & (e["dtMatches"][0] > 0)).sum())
                fp += int((counts & (e["dtMatches"][0] == 0)).sum())
                num_gt += int((e["gtIgnore"] == 0).sum())
            ours = results["per_class"][name]["by_size"][size]
            assert [ours[key] for key in ("true_positives", "false_positives", "num_gt")] == [tp, fp, num_gt]
            assert ours["missed"] == num_gt - tp
            precision = reference.eval["precision"][:, :, k, a, -1]
            assert ours["AP"] == (pytest.approx(100 * precision.mean(), abs=1e-9) if num_gt else None)
            assert ours["precision"] == (pytest.approx(100 * tp / max(tp + fp, 1)) if num_gt else None)
        ours = results["by_size"][size]
        assert ours["AP"] == pytest.approx(results["AP" + size[0]], abs=1e-9)
        assert ours["num_gt"] == sum(v["by_size"][size]["num_gt"] for v in results["per_class"].values())


def test_head_middle_and_tail():
    counts = {"a": 5, "b": 500, "c": 50, "d": 50, "e": 1, "f": 700, "g": 20}
    groups = frequency_groups(counts)
    assert groups == {"head": ["f", "b", "c"], "middle": ["d", "g"], "tail": ["a", "e"]}
    value = {"f1": 50.0, "best_f1": 60.0, "num_gt": 4, "true_positives": 3, "false_positives": 2, "missed": 1}
    per_class = {
        n: value | {"AP": 10.0 * k, "AP50": 90.0, "precision": 80.0, "recall": 40.0} for k, n in enumerate("abcdefg")
    }
    nothing = dict.fromkeys(("AP", "AP50", "precision", "recall", "f1", "best_f1"))
    per_class["e"] = nothing | {"num_gt": 0, "true_positives": None, "false_positives": None, "missed": None}
    result = by_frequency(per_class, counts)
    assert result["head"]["AP"] == pytest.approx((50 + 10 + 20) / 3) and result["head"]["num_gt"] == 12
    assert result["middle"]["f1"] == pytest.approx(2 * 80 * 40 / 120)
    assert result["tail"]["AP"] == 0 and result["tail"]["classes"] == ["a", "e"]  # e has no ground truth
    assert result["tail"]["train_counts"] == [5, 1] and result["tail"]["missed"] == 1
    with pytest.raises(ValueError, match=r"no number for \['g'\]"):
        by_frequency(per_class, {k: v for k, v in counts.items() if k != "g"})


def test_groups_are_in_the_results_and_only_when_counts_are_given():
    truth, detections = random_scene(1)
    train_counts = dict(zip(CATEGORIES.values(), (9, 7, 5, 3, 1), strict=True))
    results = evaluate_detections(truth, detections, train_counts=train_counts)
    per_class = results["bbox"]["per_class"]
    head = results["bbox"]["by_frequency"]["head"]
    assert head["classes"] == ["pavilion", "sign"]
    assert head["AP"] == pytest.approx((per_class["pavilion"]["AP"] + per_class["sign"]["AP"]) / 2)
    assert "by_frequency" not in evaluate_detections(truth, detections)["bbox"]


def boundary_by_erosion(mask):
    """Cheng et al.: the mask without what is left of it after eroding; outside the image there is nothing."""
    steps = max(1, round(0.02 * np.hypot(*mask.shape)))
    return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=steps, border_value=0)


def test_boundary_iou_of_full_masks():
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(30):
        box = np.concatenate([rng.uniform(-20, [150, 100]), rng.uniform(8, 90, 2)])  # some leave the image
        masks.append((blob(box), blob(box + rng.normal(0, 3, 4))))
    masks.append((np.zeros(SIZE, dtype=bool), np.zeros(SIZE, dtype=bool)))
    expected = []
    for first, second in masks:
        a, b = boundary_by_erosion(first), boundary_by_erosion(second)
        expected.append((a & b).sum() / max((a | b).sum(), 1))
    index = np.arange(len(masks))
    result = boundary_iou([rle(m[0]) for m in masks], [rle(m[1]) for m in masks], index, index)
    np.testing.assert_allclose(result, expected, atol=1e-12)
    assert 0.1 < result[:-1].mean() < 0.9


@pytest.mark.parametrize("seed", range(2))
def test_boundary_ap_equals_faster_coco_eval(seed):
    truth, detections = random_scene(seed)
    keep = [c for c, n in CATEGORIES.items() if n in MASK_CLASSES]
    truth["annotations"] = [a for a in truth["annotations"] if a["category_id"] in keep]
    detections = [d for d in detections if d["category_id"] in keep]
    result = boundary_quality(match_detections(truth, detections, mask_classes=MASK_CLASSES).tasks["segm"])
    no_boxes = [{k: v for k, v in d.items() if k != "bbox"} for d in detections]
    gt = COCO(truth, print_function=lambda *_: None)
    reference = COCOeval_faster(gt, gt.loadRes(no_boxes), "boundary", print_function=lambda *_: None)
    reference.params.catIds = keep
    reference.evaluate()
    reference.accumulate()
    precision = reference.eval["precision"][:, :, :, 0, -1]
    assert result["AP"] == pytest.approx(100 * precision[precision > -1].mean(), abs=1e-9)
    assert 0 < result["mean_iou"] < result["mask_mean_iou"] < 100


def test_boundary_of_perfect_masks_is_100():
    truth, _ = random_scene(3)
    truth["annotations"] = [a | {"iscrowd": 0} for a in truth["annotations"] if "segmentation" in a]
    detections = [a | {"score": 0.9} for a in truth["annotations"]]
    result = evaluate_detections(truth, detections)["segm"]["boundary"]
    assert [result[k] for k in ("AP", "mean_iou", "mask_mean_iou")] == pytest.approx([100] * 3)
    assert result["num_pairs"] == len(detections)
    area = mask_util.area([a["segmentation"] for a in truth["annotations"]])
    assert area.min() > 0
