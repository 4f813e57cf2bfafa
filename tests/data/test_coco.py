"""COCO files, the catalogue, and classes matched by name."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from reg_d2.data.catalog import CatalogEntry, find_entries, read_catalog, register, training_classes
from reg_d2.data.coco import ClassInfo, ClassMismatchError, read_coco, to_dataset_dicts

POLYGON = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0]]


def coco(categories=((3, "sign"), (7, "pole")), annotations=()):
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in (5, 6)],
        "categories": [{"id": i, "name": n} for i, n in categories],
        "annotations": [
            {"id": k + 1, "image_id": 5, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0, **a}
            for k, a in enumerate(annotations)
        ],
    }


ANNOTATIONS = [
    {"category_id": 7, "segmentation": POLYGON},
    {"category_id": 7},
    {"category_id": 7, "segmentation": []},
    {"category_id": 3, "segmentation": [[1, 2, 3, 4]]},
    {"category_id": 7, "segmentation": POLYGON, "iscrowd": 1},
]


@pytest.fixture
def write(tmp_path):
    def write(content, name="train.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_counts_by_task_with_gaps_in_the_ids(write):
    info = read_coco(write(coco(annotations=ANNOTATIONS))).class_info()
    assert info == ClassInfo(("sign", "pole"), (1, 3), (0, 1))
    assert info.mask_classes == ("pole",)


def test_dataset_dicts_keep_every_image_and_object(write, caplog):
    dicts = to_dataset_dicts(read_coco(write(coco(annotations=ANNOTATIONS))), "images", ("pole", "sign"))
    assert [len(d["annotations"]) for d in dicts] == [5, 0]
    objects = dicts[0]["annotations"]
    assert [o["category_id"] for o in objects] == [0, 0, 0, 1, 0], "classes go by name, not by id order"
    assert ["segmentation" in o for o in objects] == [True, False, False, False, True]
    assert "1 objects have polygons of fewer than three points" in caplog.text


def test_a_class_mismatch_shows_both_lists(write):
    file = read_coco(write(coco()))
    with pytest.raises(ClassMismatchError) as error:
        to_dataset_dicts(file, "images", ("sign", "bus stop"))
    for part in ("['sign', 'bus stop']", "['sign', 'pole']", "missing: ['bus stop']", "not expected: ['pole']"):
        assert part in str(error.value)


def test_validation_with_other_ids_and_order_is_matched_by_name(write):
    train = CatalogEntry("t", write(coco(annotations=ANNOTATIONS)), "images")
    val = CatalogEntry("v", write(coco(((1, "pole"), (2, "sign")), [{"category_id": 1}]), "val.json"), "images")
    classes = training_classes([train])
    register(val, classes)
    assert DatasetCatalog.get("v")[0]["annotations"][0]["category_id"] == classes.names.index("pole")
    assert MetadataCatalog.get("v").thing_dataset_id_to_contiguous_id == {1: 1, 2: 0}
    assert MetadataCatalog.get("v").mask_classes == ["pole"]
    register(val, classes)  # again: replaced, not refused


def test_counts_of_several_training_sets_are_added_by_name(write):
    a = CatalogEntry("a", write(coco(annotations=ANNOTATIONS)), "images")
    b = CatalogEntry("b", write(coco(((1, "pole"), (2, "sign")), [{"category_id": 2}]), "b.json"), "images")
    assert training_classes([a, b]) == ClassInfo(("sign", "pole"), (2, 3), (0, 1))
    c = CatalogEntry("c", write(coco(((1, "pole"),)), "c.json"), "images")
    with pytest.raises(ClassMismatchError, match="missing: \\['sign'\\]"):
        training_classes([a, c])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json", "is not a JSON file"),
        ({"images": [], "annotations": []}, "no categories in it"),
        ([1, 2], "no images, annotations, categories"),
        (coco(((1, "sign"), (2, "sign"))), "share an id or a name"),
        (coco(annotations=[{"category_id": 99}]), "annotation 1 names category 99"),
    ],
)
def test_broken_files_are_named(write, content, message):
    path = write(content)
    with pytest.raises(ValueError, match=message) as error:
        read_coco(path)
    assert str(path) in str(error.value)


def test_missing_file_and_unknown_name(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="REG_D2_DATASETS"):
        read_coco(tmp_path / "absent.json")
    monkeypatch.setenv("REG_D2_DATASETS", str(tmp_path))
    catalog = read_catalog("configs/datasets.yaml")
    assert catalog["highway_train"].json == tmp_path / "highway" / "instances_train.json"
    with pytest.raises(KeyError, match="Did you mean 'highway_val'"):
        find_entries(catalog, ["highway_vall"])


def test_a_user_s_own_catalogue(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("mine: {json: /data/a.json, images: /data/a}\n")
    assert str(read_catalog(path)["mine"].images) == "/data/a"
    path.write_text("mine: {jsn: a.json, images: a}\n")
    with pytest.raises(ValueError, match="exactly the keys json and images"):
        read_catalog(path)
