"""Our numbers against those that other packages gave for the same boxes; the scripts in ``golden`` made them."""

import json
from pathlib import Path

import pytest

from reg_d2.evaluation.average_precision import precision_table
from reg_d2.evaluation.coco import match_detections
from reg_d2.evaluation.errors import error_types
from reg_d2.evaluation.summary import average_precisions
from reg_d2.evaluation.ultralytics import ultralytics_metrics

GOLDEN = Path(__file__).parent / "golden"
ULTRALYTICS = json.loads((GOLDEN / "ultralytics.json").read_text())
TIDE = json.loads((GOLDEN / "tide.json").read_text())


def matches(case, num_images, num_classes):
    return match_detections(*coco(case, num_images, num_classes), tasks=["bbox"]).tasks["bbox"]


def coco(case, num_images, num_classes):
    truth = {
        "images": [{"id": i, "height": 300, "width": 300} for i in range(num_images)],
        "categories": [{"id": c, "name": str(c)} for c in range(num_classes)],
        "annotations": [
            {"id": n, "image_id": o[0], "category_id": o[1], "bbox": o[2:], "area": o[4] * o[5], "iscrowd": 0}
            for n, o in enumerate(case["objects"], start=1)
        ],
    }
    return truth, [{"image_id": d[0], "category_id": d[1], "score": d[2], "bbox": d[3:]} for d in case["detections"]]


def test_ultralytics_convention_equals_the_package():
    assert len(ULTRALYTICS) >= 50 and len({c["kind"] for c in ULTRALYTICS}) == 6
    for number, case in enumerate(ULTRALYTICS):
        result = ultralytics_metrics(matches(case, 8, 5))
        expected = case["expected"]
        assert result["confidence"] == pytest.approx(expected.pop("confidence"), abs=1e-6), number
        per_class = expected.pop("per_class")
        assert {k: result[k] for k in expected} == pytest.approx({k: 100 * v for k, v in expected.items()}, abs=1e-6)
        for name, of_class in result["per_class"].items():
            values = [of_class[k] for k in ("AP", "AP50", "precision", "recall", "f1")]
            if name in per_class:
                assert values == pytest.approx([100 * v for v in per_class[name]], abs=1e-6), (number, name)
            else:
                assert of_class["num_gt"] == 0 and values == [None] * 5


def test_the_two_conventions_differ_where_the_rules_do():
    """The ramp gives the ultralytics AP points where recall is low."""
    low = [c for c in ULTRALYTICS if c["kind"] == "low recall"]
    for found in (matches(case, 8, 5) for case in low):
        coco_ap50 = average_precisions(precision_table(found))["AP50"]
        assert ultralytics_metrics(found)["AP50"] > coco_ap50 + 0.5


def test_error_types_equal_tidecv():
    assert len(TIDE) >= 30
    for number, case in enumerate(TIDE):
        result = error_types(matches(case, 12, 4))
        expected = case["expected"]
        assert result["AP50"] == pytest.approx(expected["AP50"], abs=1e-6), number
        for name, (count, cost) in expected["types"].items():
            assert result["types"][name]["count"] == count, (number, name)
            assert result["types"][name]["ap_cost"] == pytest.approx(cost, abs=1e-6), (number, name)
