"""The analysis of a data set, against numbers worked out by hand or in plain loops."""

import json

import numpy as np
import pytest

from reg_d2.data.analysis import analyse, background_distance, gather, suggestions
from reg_d2.data.checks import check_content
from reg_d2.losses.class_balance import class_weights
from reg_d2.report.data_analysis import page

from ..tools.loading import load_tool

NAMES = ("sign", "pole", "bus stop")


def content(boxes):
    """boxes: (image, category, x, y, w, h, has mask)."""
    objects = []
    for i, (image, category, x, y, w, h, mask) in enumerate(boxes):
        entry = {"id": i + 1, "image_id": image, "category_id": category, "bbox": [x, y, w, h], "area": w * h}
        if mask:
            entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        objects.append(entry)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 240, "height": 120} for i in (1, 2, 3, 4)]
    categories = [{"id": i + 1, "name": n} for i, n in enumerate(NAMES)]
    return {"images": images, "annotations": objects, "categories": categories}


BOXES = [
    (1, 1, 0, 0, 10, 10, True),
    (1, 1, 230, 110, 10, 10, True),
    (1, 2, 100, 10, 5, 100, True),
    (2, 1, 20, 20, 40, 40, False),
    (2, 3, 100, 0, 120, 120, False),
    (3, 1, 10, 10, 20, 20, True),
]


@pytest.fixture
def objects():
    return gather([check_content(content(BOXES), "x")])


def test_counts_weights_and_ratio(objects):
    result = analyse(objects)
    json.dumps(result, allow_nan=False)
    assert result["classes"]["sign"] == {"objects": 4, "masks": 3, "images": 3}
    assert result["classes"]["bus stop"] == {"objects": 1, "masks": 0, "images": 1}
    assert result["imbalance_ratio"] == {"box": 4.0, "mask": 3.0}
    assert set(result["class_weights"]["mask"]["uniform"]) == {"sign", "pole"}, "bus stops have no masks"
    weights = result["class_weights"]["box"]["inverse_frequency"]
    expected = class_weights([4, 1, 1], "inverse_frequency", True).tolist()
    assert [weights[n] for n in NAMES] == pytest.approx(expected, abs=1e-4)
    assert result["objects_per_image"] == {"mean": 1.5, "max": 3, "without": 1, "histogram": [1, 1, 1, 1]}


def test_sizes_places_and_neighbours(objects):
    result = analyse(objects)
    pole = result["sizes"]["pole"]
    assert pole["aspect_ratio"]["p50"] == 20 and (pole["small"], pole["medium"], pole["large"]) == (1, 0, 0)
    assert (result["sizes"]["sign"]["medium"], result["sizes"]["bus stop"]["large"]) == (1, 1)
    heat = np.array(result["heat_maps"]["sign"])
    assert heat.sum() == 4 and heat[0, 0] == 0 and heat[1, 0] == 1 and heat[23, 23] == 1
    assert result["co_occurrence"] == [[3, 1, 1], [1, 1, 0], [1, 0, 1]]


def test_background_distance_is_measured_as_the_loss_does(objects):
    """All regions have an object's size, none covers one, and all distances are those of centres."""
    found = background_distance(objects, "center", 0)
    assert found == background_distance(objects, "center", 0), "the same seed, the same regions"
    assert 0 < found["regions"] <= 3 * 64
    assert found["any"]["p5"] < found["any"]["p95"] < 1
    assert found["classes"]["pole"]["p50"] > 0
    edge = background_distance(objects, "edge", 0)
    assert edge["any"]["p50"] < found["any"]["p50"], "gaps are shorter than distances of centres"
    # One point-like object in the middle of a picture, small regions: the mean distance is a known integral.
    one = gather([check_content(content([(1, 1, 119.5, 59.5, 1, 1, False)] * 1), "x")])
    median = background_distance(one, "center", 1)["any"]["p50"]
    grid = np.stack(np.meshgrid(np.linspace(-120, 120, 400), np.linspace(-60, 60, 200)), -1)
    assert median == pytest.approx(np.median(np.hypot(*grid.T)) / np.hypot(240, 120), abs=0.05)


def test_suggestions(objects):
    found = suggestions(objects)
    sides = [s for (s,) in found["MODEL.ANCHOR_GENERATOR.SIZES"]]
    assert len(sides) == 5 and sides == sorted(sides) and sides[0] >= 10 and sides[-1] <= 120
    assert sides[1] / sides[0] == pytest.approx(sides[4] / sides[3], rel=0.02)
    # Shares of images: 3/4, 1/4, 1/4; their median makes the common class the only one that is above it.
    assert found["DATALOADER.SAMPLING.THRESHOLD"] == found["DATALOADER.REPEAT_THRESHOLD"] == 0.25
    assert found["repeat_factors"] == {"sign": 1.0, "pole": 1.0, "bus stop": 1.0}


def test_files_are_taken_together_by_class_name():
    other = content(BOXES)
    other["categories"] = [{"id": 1, "name": "pole"}, {"id": 2, "name": "sign"}, {"id": 3, "name": "bus stop"}]
    both = gather([check_content(content(BOXES), "a"), check_content(other, "b")])
    assert both.names == NAMES and len(both.sizes) == 8
    assert np.bincount(both.category).tolist() == [5, 5, 2]
    assert both.image.max() == 6


def test_crowds_and_empty_boxes_are_left_out():
    broken = content([*BOXES, (4, 1, 250, 0, 10, 10, False)])
    broken["annotations"][0]["iscrowd"] = 1
    assert len(gather([check_content(broken, "x")]).boxes) == 5
    with pytest.raises(ValueError, match="no objects to analyse"):
        gather([check_content(content([]), "x")])


def test_the_tool_writes_both_files(tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps(content(BOXES)))
    arguments = [f"{tmp_path / 'a.json'}:{tmp_path}", "--output", str(tmp_path / "out")]
    assert load_tool("analyze_dataset").main(arguments) == 0
    assert "imbalance ratio rho: boxes 4.0, masks 3.0" in capsys.readouterr().out
    text = (tmp_path / "out" / "analysis.html").read_text()
    assert text.count("data:image/svg+xml;base64,") == 6 and "http" not in text
    assert json.loads((tmp_path / "out" / "analysis.json").read_text())["objects"] == 6


def test_class_names_are_escaped(objects):
    result = analyse(objects)
    text = page("<script>", result)
    assert "<script>" not in text and "&lt;script&gt;" in text
