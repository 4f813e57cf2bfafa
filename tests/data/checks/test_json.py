"""Records, boxes and masks: each fault, made on purpose, is found under its name and is gone after the repair."""

import json
import math

import numpy as np
import pycocotools.mask as mask_util
import pytest

from reg_d2.data.checks import KINDS, UnusableFileError, check_content, parse, repair
from reg_d2.data.checks.findings import findings_table
from reg_d2.data.checks.masks import Masks
from reg_d2.data.checks.repair import STAGES
from reg_d2.data.checks.structure import check_structure
from reg_d2.data.coco import read_coco, to_dataset_dicts

from .conftest import HEIGHT, SQUARE, WIDTH, rle


def found(checked):
    return {f.kind: f for f in checked.report.findings}


def test_a_sound_file_has_nothing_but_a_count(sound):
    assert {k: f.ids for k, f in found(check_content(sound, "x")).items()} == {"box_only": [3]}


OBJECTS = {
    "annotation_id": {"id": "7"},
    "annotation_id_zero": {"id": 0},
    "annotation_id_duplicate": {"id": 1},
    "annotation_duplicate": {"bbox": [10, 10, 20, 20]},
    "annotation_image_unknown": {"image_id": 9},
    "annotation_category_unknown": {"category_id": 9},
    "crowd_invalid": {"iscrowd": "no"},
    "box_malformed": {"bbox": [1, 2, math.nan, 4]},
    "box_not_positive": {"bbox": [20, 8, 0, 20]},
    "box_outside": {"bbox": [70, 8, 10, 10]},
    "box_sticks_out": {"bbox": [50, 8, 20, 20]},
    "mask_malformed": {"segmentation": ["a"]},
    "polygon_short": {"segmentation": [[1, 2, 3, 4]]},
    "polygon_flat": {"segmentation": [[1, 1, 2, 2, 3, 3]]},
    "polygon_outside": {"segmentation": [[20, 8, 70, 8, 70, 28, 20, 28]]},
    "polygon_crossing": {"segmentation": [[20, 8, 40, 28, 40, 8, 20, 28]]},
    "rle_size": {"segmentation": rle(20, 8, 40, 28, width=48, height=64)},
    "rle_corrupt": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "0123"}},
    "rle_empty": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}},
    "box_mask_disagree": {"bbox": [40, 30, 20, 10], "segmentation": SQUARE},
    "area_missing": {"area": None},
    "area_disagree": {"area": 4000},
    "crowd": {"iscrowd": 1},
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_broken_object(with_object, kind):
    checked = with_object(**OBJECTS[kind])
    finding = found(checked)[kind]
    assert finding.count == 1 and finding.rows == [3], "the culprit and no other"
    repaired, changes = repair(checked.content)
    if KINDS[kind].fixable:
        assert any(change.kind == kind for change in changes)
        assert not repaired.report.fixable
    else:
        assert not changes
    assert repaired.content["annotations"][:3] == checked.content["annotations"][:3], "sound objects stay as they are"


def change_image(**values):
    return lambda content: content["images"][1].update(values)


def change_category(**values):
    return lambda content: content["categories"][1].update(values)


FILES = {
    "image_record": change_image(file_name=None),
    "image_size": change_image(width=10**7, height=10**7),
    "image_id": change_image(id="two"),
    "image_id_duplicate": change_image(id=1),
    "file_name_outside": change_image(file_name="../2.png"),
    "file_repeated": change_image(file_name="1.png"),
    "category_record": change_category(name=""),
    "category_duplicate": change_category(name="sign"),
    "category_gap": lambda c: [c["categories"][1].update(id=5), c["annotations"][1].update(category_id=5)],
    "category_unused": lambda c: c["annotations"].pop(1),
    "annotation_record": lambda c: c["annotations"].append([1]),
    "annotations_none": lambda c: c["annotations"].clear(),
    "image_empty": lambda c: c["annotations"].pop(2),
}


def test_names_are_any_text_that_is_one_line(sound):
    sound["categories"][1]["name"] = "\u0e1b\u0e49\u0e32\u0e22\u200b\u0e17\u0e32\u0e07"
    sound["images"][1]["file_name"] = "a\u00a0b.jpg"
    assert not {"category_record", "image_record"} & set(found(check_content(sound, "x")))
    for name in (" ", "a\nb", "a\0b", "\ud800", "a\u2028b"):
        sound["categories"][1]["name"] = name
        assert "category_record" in found(check_content(sound, "x"))


@pytest.mark.parametrize("kind", FILES)
def test_a_broken_file(sound, kind):
    FILES[kind](sound)
    before = json.dumps(sound)
    checked = check_content(sound, "x")
    assert kind in found(checked)
    repaired, changes = repair(sound)
    assert json.dumps(sound) == before, "the input is not touched"
    assert not repaired.report.fixable and bool(changes) == KINDS[kind].fixable
    assert check_structure(repaired.content)[1] == []


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b.jpg", "..\\b.jpg", "C:\\b.jpg", "\\\\host\\b.jpg"])
def test_file_names_that_leave_the_folder(sound, name):
    sound["images"][0]["file_name"] = name
    assert found(check_content(sound, "x"))["file_name_outside"].ids == [name]


def test_boxes_as_corners_are_guessed_and_converted(sound):
    boxes = [[20 + 2 * i, 10, 40 + 2 * i, 40] for i in range(8)]
    sound["annotations"] = [{**sound["annotations"][2], "id": i + 1, "bbox": b} for i, b in enumerate(boxes)]
    finding = found(check_content(sound, "x"))["boxes_xyxy"]
    assert finding.count == 8 and "a guess" in KINDS["boxes_xyxy"].effect
    fixed = repair(sound)[0].content["annotations"]
    assert [a["bbox"] for a in fixed] == [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes]


def test_repairs_keep_what_they_can(sound):
    crossing = [20.0, 8.0, 40.0, 28.0, 40.0, 8.0, 20.0, 28.0]  # two triangles of 100 px^2
    faults = [
        {"segmentation": [[1, 2, 3, 4], *SQUARE]},
        {"category_id": 2, "bbox": [0, 0, 0, 0], "segmentation": SQUARE},
        {"bbox": [20, 8, 20, 20], "segmentation": [crossing], "area": 0},
        {"bbox": [50, 8, 20, 20], "segmentation": [[50, 8, 70, 8, 70, 28, 50, 28]]},
        {"bbox": [1, 8, 20, 20], "segmentation": [1, 8, 21, 8, 21, 28, 1, 28]},
        {"image_id": "2", "bbox": [5, 5, 9, 9], "area": 81},
    ]
    base = sound["annotations"][0]
    sound["annotations"] = [{**base, "id": i, "bbox": [10 + i, 10, 20, 20], **f} for i, f in enumerate(faults)]
    a, b, c, d, e, f = repair(sound)[0].content["annotations"]
    assert a["segmentation"] == SQUARE and a["id"] not in (0, 1, 2, 3, 4, 5)
    assert b["bbox"] == [10, 10, 20, 20]
    assert len(c["segmentation"]) == 2 and c["area"] == 200
    assert d["bbox"] == [50, 8, 14, 20] and max(d["segmentation"][0][::2]) == WIDTH
    assert e["segmentation"] == [[1, 8, 21, 8, 21, 28, 1, 28]], "a bare polygon is put into its list"
    assert f["image_id"] == 2


def test_run_statistics_agree_with_decoded_masks(sound):
    """RLEs of random masks against pycocotools, compressed and not."""
    rng = np.random.default_rng(0)
    sound["annotations"], masks = [], []
    for i in range(40):
        mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        mask[rng.integers(0, 40) :, rng.integers(0, 60) :] = rng.random() < 0.8
        mask &= rng.random(mask.shape) < rng.choice([0.02, 0.5, 1.0])
        run = mask_util.encode(np.asfortranarray(mask))
        pixels, runs = mask.ravel(order="F"), []
        changes = np.flatnonzero(np.diff(np.append(0, pixels))).tolist()
        runs = np.diff([0, *changes, len(pixels)]).tolist()
        counts = run["counts"].decode() if i % 2 else runs
        entry = {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 64, 48]}
        sound["annotations"].append({**entry, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}})
        masks.append(mask)
    result = Masks(check_structure(sound)[0])
    assert result.area.tolist() == [m.sum() for m in masks]
    assert result.usable.tolist() == [m.any() for m in masks]
    for mask, box in zip(masks, result.boxes, strict=True):
        if mask.any():
            y, x = np.nonzero(mask)
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_uncompressed_rle_is_loaded_as_compressed(tmp_path, sound):
    sound["annotations"][1]["segmentation"] = {"size": [2, 2], "counts": [1, 3]}
    sound["images"][0].update(width=2, height=2)
    sound["annotations"] = sound["annotations"][1:2]
    (tmp_path / "a.json").write_text(json.dumps(sound))
    dicts = to_dataset_dicts(read_coco(tmp_path / "a.json"), "x", ("sign", "pole"))
    decoded = mask_util.decode(dicts[0]["annotations"][0]["segmentation"])
    assert decoded.tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '{"images": {}, "annotations": [], "categories": []}', "[" * 100000, '{"a": ' * 20000]
    + ['{"images": [' + "9" * 5000 + "]}", "\xff"],
    ids=range(8),
)
def test_unusable_files_are_refused_by_name(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UnusableFileError, match=r"a\.json"):
        parse(path)


def test_box_only_objects_are_counted_by_class(sound):
    sound["annotations"].append({**sound["annotations"][2], "id": 9, "bbox": [1, 1, 9, 9]})
    finding = found(check_content(sound, "x"))["box_only"]
    assert finding.count == 2 and "sign 2 of 3" in finding.detail and "pole" not in finding.detail


def test_every_fixable_kind_has_its_stage():
    staged = [kind for stage in STAGES for kind in stage.split()]
    assert sorted(staged) == sorted(kind for kind, about in KINDS.items() if about.fixable)


def test_the_table_names_the_first_five(sound):
    sound["annotations"] = [{**sound["annotations"][2], "id": i, "bbox": [i, 0, 0, 1]} for i in range(11, 18)]
    text = findings_table(check_content(sound, "x").report.findings)
    assert "11, 12, 13, 14, 15" in " ".join(text.replace("│", " ").split()) or "15" in text
    assert "16" not in text
