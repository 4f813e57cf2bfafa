"""A detection set and a segmentation set become one training set; several sources under one catalogue name."""

import json

import pytest
from detectron2.data import DatasetCatalog

from reg_d2.data.catalog import read_catalog, register, training_classes
from reg_d2.data.checks import check_content
from reg_d2.data.merge import merge

from ..tools.loading import load_tool


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def coco(images, objects, names=("sign", "pole"), size=(200, 100)):
    """objects: (image name, class, x, y, side, has mask)."""
    return {
        "images": [{"id": i, "file_name": n, "width": size[0], "height": size[1]} for i, n in enumerate(images, 10)],
        "categories": [{"id": 5 * i, "name": n} for i, n in enumerate(names, 1)],
        "annotations": [
            {"id": i, "image_id": images.index(image) + 10, "category_id": 5 * names.index(name) + 5, "iscrowd": 0}
            | {"bbox": [x, y, side, side], "area": side**2, "segmentation": square(x, y, side) if mask else []}
            for i, (image, name, x, y, side, mask) in enumerate(objects, 1)
        ],
    }


def merged(first, second, **options):
    content, report = merge(check_content(first, "first"), check_content(second, "second"), **options)
    found = check_content(content, "merged").report
    assert not found.of("error") and {f.kind for f in found.of("warning")} <= {"category_unused"}
    names = {c["id"]: c["name"] for c in content["categories"]}
    images = {i["id"]: i["file_name"] for i in content["images"]}
    found = {
        (images[a["image_id"]], names[a["category_id"]], tuple(a["bbox"]), bool(a["segmentation"]))
        for a in content["annotations"]
    }
    return content, report, found


def test_objects_are_matched_by_class_and_overlap():
    first = coco(["a", "b"], [("a", "sign", 10, 10, 20, False), ("a", "pole", 50, 10, 20, False)])
    second = coco(
        ["a", "c"],
        [("a", "sign", 12, 11, 20, True), ("a", "sign", 100, 10, 20, True), ("c", "pole", 5, 5, 30, True)],
        names=("pole", "sign"),
    )
    content, report, found = merged(first, second)
    assert found == {
        ("a", "sign", (10, 10, 20, 20), True),  # box of the first, mask of the second
        ("a", "pole", (50, 10, 20, 20), False),
        ("a", "sign", (100, 10, 20, 20), True),
        ("c", "pole", (5, 5, 30, 30), True),
    }
    assert content["annotations"][0]["segmentation"] == square(12, 11, 20)
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3, 4]
    assert (report.matched, report.only_first, report.only_second) == (1, 1, 2)
    assert (report.shared_images, report.only_first_images, report.only_second_images) == (1, 1, 1)
    assert report.conflicts == []


def test_the_best_pairs_come_first():
    first = coco(["a"], [("a", "sign", 10, 10, 20, False), ("a", "sign", 14, 10, 20, False)])
    second = coco(["a"], [("a", "sign", 14, 11, 20, True)])
    _, report, found = merged(first, second)
    assert report.matched == 1 and ("a", "sign", (14, 10, 20, 20), True) in found
    assert merged(first, second, least_iou=0.99)[1].matched == 0


def test_conflicts_are_reported_and_nothing_is_lost():
    first = coco(["a"], [("a", "sign", 10, 10, 20, False), ("a", "pole", 50, 10, 20, True)])
    second = coco(["a"], [("a", "pole", 10, 10, 20, True), ("a", "pole", 51, 10, 20, True)])
    content, report, _ = merged(first, second)
    assert len(content["annotations"]) == 3
    different, two = report.conflicts
    assert "sign 1 of the first and pole 1 of the second overlap (IoU 1.00)" in different and "both have a mask" in two
    other = coco(["a"], [("a", "sign", 10, 10, 20, True)], size=(100, 200))
    content, report, _ = merged(first, other)
    assert "200x100 in the first, 100x200 in the second" in report.conflicts[0]
    assert len(content["annotations"]) == 2
    assert report.left_out == 1 and "1 left out of images that differ in size" in str(report)


def test_a_picture_that_a_file_has_twice_keeps_all_its_objects():
    first = coco(["a"], [("a", "sign", 10, 10, 20, False), ("a", "pole", 50, 10, 20, False)])
    first["images"].append({**first["images"][0], "id": 99})
    first["annotations"][1]["image_id"] = 99
    second = coco(["a"], [("a", "sign", 100, 10, 20, True)])
    content, report, found = merged(first, second)
    assert {x[2] for x in found} == {(10, 10, 20, 20), (50, 10, 20, 20), (100, 10, 20, 20)}
    assert len(content["images"]) == 1 and report.only_first == 2
    first["images"][1]["width"] = 300
    with pytest.raises(ValueError, match="first has a twice, as 200x100 and 300x100"):
        merged(first, second)


def test_crowds_are_not_matched():
    first, second = (coco(["a"], [("a", "sign", 10, 10, 20, True)]) for _ in range(2))
    second["annotations"][0]["iscrowd"] = 1
    assert merged(first, second)[1].matched == 0


def test_broken_files_are_refused(tmp_path, capsys):
    first = coco(["a"], [("a", "sign", 10, 10, 20, True)])
    second = {**first, "annotations": [{**first["annotations"][0], "bbox": [1]}]}
    with pytest.raises(ValueError, match=r"second has errors.*\n.*box_malformed"):
        merge(check_content(first, "first"), check_content(second, "second"))
    for name, content in (("a", first), ("b", first)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    files = [str(tmp_path / f"{name}.json") for name in "ab"]
    assert load_tool("merge_datasets").main([*files, "--output", str(tmp_path / "c.json")]) == 0
    assert "1 matched" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "c.json").read_text())["annotations"]) == 1


def test_several_sources_under_one_name(tmp_path, monkeypatch):
    monkeypatch.setenv("REG_D2_DATASETS", str(tmp_path))
    first = coco(["a"], [("a", "sign", 10, 10, 20, False)])
    second = coco(["a", "b"], [("b", "pole", 10, 10, 20, True)], names=("pole", "sign"))
    (tmp_path / "x.json").write_text(json.dumps(first))
    (tmp_path / "y.json").write_text(json.dumps(second))
    (tmp_path / "catalog.yaml").write_text(
        "both:\n  - {json: x.json, images: x}\n  - {json: y.json, images: y}\none: {json: x.json, images: x}\n"
    )
    entry = read_catalog(tmp_path / "catalog.yaml")["both"]
    assert len(entry.sources) == 2 and (entry.json, entry.images) == (tmp_path / "x.json", tmp_path / "x")
    classes = training_classes([entry])
    assert (classes.names, classes.box_counts, classes.mask_counts) == (("sign", "pole"), (1, 1), (0, 1))
    register(entry, classes)
    dicts = DatasetCatalog.get("both")
    assert [d["file_name"] for d in dicts] == [str(tmp_path / p) for p in ("x/a", "y/a", "y/b")]
    assert [d["image_id"] for d in dicts] == [1, 2, 3], "ids of two files may not meet"
    assert dicts[2]["annotations"][0]["category_id"] == classes.names.index("pole")
