"""Ground truth that no metric can be taken on is refused by name and number."""

import numpy as np
import pytest

from reg_d2.data.coco import has_mask
from reg_d2.evaluation.coco import evaluate_detections
from reg_d2.evaluation.ground_truth import mask_of

from .scenes import SIZE, scene


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [20.0, np.nan, 4.0, 4.0]}, r"1 of 1 annotations: box that is missing, NaN.*'id': 1"),
        ({"bbox": [20.0, 2.0, 4.0, -4.0]}, "negative size"),
        ({"bbox": None}, "box that is missing"),
        ({"bbox": 5}, r"1 of 1 annotations: box that is.*not four numbers.*'id': 1.*'bbox': 5"),
        ({"bbox": ["10", "10", "20", "20"]}, "1 of 1 annotations: box that is.*not four numbers.*'10'"),
        ({"bbox": [0.0, 0.0, 1e12, 1.0]}, "box that is.*beyond 1,000,000 pixels"),
        ({"iscrowd": "no"}, "1 of 1 annotations: iscrowd that is neither 0 nor 1.*'id': 1.*'no'"),
        ({"image_id": None}, "1 of 1 annotations: image_id that is missing or no whole number.*'id': 1"),
        ({"category_id": [3]}, r"1 of 1 annotations: category_id that is missing or no whole number.*\[3\]"),
        *(
            ({"segmentation": mask}, "1 of 1 annotations: mask that is neither an RLE nor polygons.*'id': 1")
            for mask in (
                [[10, 10, 30, 10, np.nan, 30]],
                [[10, 10, 30, 10, 1e12, 30]],
                [[10, 10, 30, 10, "30", 30]],
                [10, 10, 30, 10, 30, 30],
                "10",
                {"size": list(SIZE)},
            )
        ),
        ({"segmentation": {"size": [9, 9], "counts": "o0"}}, "1 of 1 annotations with an RLE: mask of another size"),
        *(
            ({"segmentation": {"size": list(SIZE), "counts": counts}}, "RLE: mask whose runs do not fill its size")
            for counts in ([100, 50], ["a"], [SIZE[0] * SIZE[1] + 1000, -1000], "o0", "\x00")
        ),
    ],
)
def test_ground_truth_that_cannot_be_measured_on(change, message):
    truth, det = scene()
    truth["annotations"] = [truth["annotations"][0] | change]
    with pytest.raises(ValueError, match=message):
        evaluate_detections(truth, [det])


def test_image_ids_that_repeat():
    truth, det = scene()
    truth["images"] *= 2
    with pytest.raises(ValueError, match=r"1 image ids occur more than once, first \[5\]"):
        evaluate_detections(truth, [det])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": None}, r"parts that are no lists: \{'annotations': 'NoneType'\}; expected a list"),
        ({"annotations": [5]}, "1 of 1 annotations: no object, first 5"),
        ({"images": [{"width": 9}]}, "1 of 1 images: id that is missing or no whole number, first {'width': 9}"),
        ({"images": [{"id": 5, "height": "9"}]}, "1 of 1 images: height or width that is no number of pixels"),
        ({"categories": [{"id": "x", "name": "c"}]}, "1 of 1 categories: id that is missing or no whole.*'id': 'x'"),
        ({"categories": [{"id": 3}]}, "1 of 1 categories: no name, first {'id': 3}"),
    ],
)
def test_files_that_are_no_ground_truth(change, message):
    truth, det = scene()
    with pytest.raises(ValueError, match=message):
        evaluate_detections(truth | change, [det])


def test_a_list_is_no_ground_truth(tmp_path):
    path = tmp_path / "gt.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"gt.json: ground truth is a list: expected a COCO detection file"):
        evaluate_detections(path, [])


@pytest.mark.parametrize("area", [None, float("nan"), float("inf"), -1.0, "9"])
def test_area_that_is_no_area_is_the_box_s(area):
    """One that cannot be compared counts in every size, a negative one in none."""
    truth, det = scene()
    truth["annotations"][0]["area"] = area
    result = evaluate_detections(truth, [det], tasks=["bbox"])["bbox"]
    assert [result[k] for k in ("APs", "APm", "APl")] == [None, pytest.approx(100), None]


@pytest.mark.parametrize("number", [4, 5, 6, 7, 8])
def test_evaluation_and_training_agree_on_what_a_polygon_is(number):
    ann = {"segmentation": [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0][:number]]}
    assert bool(mask_of(ann)) == has_mask(ann) == (number in (6, 8))
