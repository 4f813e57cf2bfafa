"""The COCO numbers are pycocotools', and what has no answer says so."""

import copy
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from reg_d2.evaluation.coco import evaluate_detections
from reg_d2.evaluation.ground_truth import mask_of
from reg_d2.evaluation.results import save_results
from reg_d2.evaluation.summary import AP_METRICS

from .reference import assert_equal, pycocotools_class, pycocotools_eval
from .scenes import CATEGORIES, SIZE, blob, random_scene, rle

MASK_CLASSES = ["pavilion", "sign", "rail"]


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("box_only_objects", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools(seed, box_only_objects, task, capsys):
    truth, detections = random_scene(seed, box_only_objects=box_only_objects)
    names = list(CATEGORIES.values()) if task == "bbox" else MASK_CLASSES
    reference = pycocotools_eval(truth, detections, task, names, box_only_ignored=True)
    capsys.readouterr()
    result = evaluate_detections(truth, detections, mask_classes=MASK_CLASSES)[task]
    assert capsys.readouterr().out == ""
    for metric, expected in zip(AP_METRICS, reference.stats, strict=False):
        assert_equal(result[metric], 100 * expected)
    assert list(result["per_class"]) == names
    for k, name in enumerate(names):
        for metric, expected in zip(("AP", "AP50"), pycocotools_class(reference, k), strict=True):
            assert_equal(result["per_class"][name][metric], expected)
    assert 0 < result["AP"] < 100


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(6))
def test_counts_are_those_of_pycocotools_matches(seed, task):
    truth, detections = random_scene(seed, box_only_objects=True)
    names = list(CATEGORIES.values()) if task == "bbox" else MASK_CLASSES
    reference = pycocotools_eval(truth, detections, task, names, box_only_ignored=True)
    tp, fp, objects = (dict.fromkeys(reference.params.catIds, 0) for _ in range(3))
    for image in filter(None, reference.evalImgs):
        if image["aRng"] == reference.params.areaRng[0]:
            counts = ~image["dtIgnore"][0] & (np.array(image["dtScores"]) >= 0.3)
            matched = image["dtMatches"][0] > 0
            tp[image["category_id"]] += int((counts & matched).sum())
            fp[image["category_id"]] += int((counts & ~matched).sum())
            objects[image["category_id"]] += int((image["gtIgnore"] == 0).sum())
    result = evaluate_detections(truth, detections, mask_classes=MASK_CLASSES, fixed_confidence=0.3)[task]
    for category in tp:
        name = CATEGORIES[category]
        fixed = result["at_fixed_confidence"]["per_class"][name]
        assert (fixed["true_positives"], fixed["false_positives"]) == (tp[category], fp[category])
        assert fixed["missed"] == objects[category] - tp[category]
        assert result["per_class"][name]["num_gt"] == objects[category]
    assert min(sum(tp.values()), sum(fp.values())) > 5


def test_more_than_100_detections_of_a_class_in_an_image():
    rng = np.random.default_rng(0)
    truth, _ = random_scene(1)
    found = {(a["image_id"], a["category_id"]): a["bbox"] for a in truth["annotations"]}
    detections = [
        {
            "image_id": i,
            "category_id": c,
            "score": float(s),
            "bbox": (np.array(box) + rng.normal(0, 9, 4)).clip(1).tolist(),
        }
        for (i, c), box in list(found.items())[:4]
        for s in rng.random(130).round(2)
    ]
    reference = pycocotools_eval(truth, detections, "bbox", list(CATEGORIES.values()))
    result = evaluate_detections(truth, detections, tasks=["bbox"], fixed_confidence=0.0)["bbox"]
    assert result["AP"] == pytest.approx(100 * reference.stats[0], abs=1e-9)
    fixed = result["at_fixed_confidence"]["per_class"].values()
    assert sum(c["true_positives"] + c["false_positives"] for c in fixed) <= 4 * 100 < result["num_detections"] == 520


def test_perfect_predictions():
    truth, _ = random_scene(3)
    truth["annotations"] = [a | {"iscrowd": 0} for a in truth["annotations"]]
    detections = [a | {"score": 0.9} for a in truth["annotations"]]
    for task, result in evaluate_detections(truth, detections, mask_classes=MASK_CLASSES).items():
        assert {k: result[k] for k in ("AP", "AP50", "precision", "recall", "f1")} == pytest.approx(
            {"AP": 100, "AP50": 100, "precision": 100, "recall": 100, "f1": 100}
        ), task


def test_box_tables_differ_only_by_their_classes():
    truth, detections = random_scene(4)
    results = evaluate_detections(truth, detections)
    assert list(results["bbox"]["per_class"]) == list(CATEGORIES.values())
    assert list(results["segm_boxes"]["per_class"]) == list(results["segm"]["per_class"]) == MASK_CLASSES
    per_class = results["bbox"]["per_class"]
    assert results["segm_boxes"]["AP"] == pytest.approx(np.mean([per_class[n]["AP"] for n in MASK_CLASSES]), abs=1e-9)
    assert "segm_boxes" not in evaluate_detections(truth, detections, tasks=["bbox"])


def one_object(**changes):
    box = [20.0, 20.0, 40.0, 40.0]
    ann = {"id": 1, "image_id": 1, "category_id": 3, "bbox": box, "area": 1600.0, "iscrowd": 0} | changes
    image = {"id": 1, "height": SIZE[0], "width": SIZE[1]}
    truth = {"images": [image], "annotations": [ann], "categories": [{"id": 3, "name": "sign"}, {"id": 9, "name": "x"}]}
    det = {"image_id": 1, "category_id": 3, "bbox": box, "score": 0.8, "segmentation": rle(blob(box))}
    return truth, [det]


def test_mask_on_a_box_only_object_is_neither_right_nor_wrong():
    truth, detections = one_object()
    away = detections[0] | {"segmentation": rle(blob([80, 60, 40, 40])), "score": 0.7}
    result = evaluate_detections(truth, [*detections, away], mask_classes=["sign"])
    assert result["bbox"]["per_class"]["sign"]["num_gt"] == result["segm_boxes"]["per_class"]["sign"]["num_gt"] == 1
    fixed = result["segm"]["at_fixed_confidence"]["per_class"]["sign"]
    assert (fixed["true_positives"], fixed["false_positives"], fixed["missed"]) == (0, 1, 0)
    assert result["segm"]["AP"] is None and result["segm"]["per_class"]["sign"]["num_gt"] == 0


@pytest.mark.parametrize("ids", [(0, 1), (1, 1), (None, 7)])
def test_annotation_ids_0_repeated_or_missing_do_not_cost_a_match(ids, caplog):
    truth, detections = one_object()
    other = truth["annotations"][0] | {"bbox": [90.0, 20.0, 40.0, 40.0]}
    truth["annotations"] = [a | {"id": i} for a, i in zip([truth["annotations"][0], other], ids, strict=True)]
    detections.append(detections[0] | {"bbox": other["bbox"]})
    with caplog.at_level(logging.WARNING):
        result = evaluate_detections(truth, detections, tasks=["bbox"])["bbox"]
    assert result["AP"] == pytest.approx(100) and result["recall"] == pytest.approx(100)
    assert "renumbered from 1" in caplog.text


def test_input_is_not_changed(tmp_path):
    truth, detections = random_scene(5, box_only_objects=True)
    before = copy.deepcopy((truth, detections))
    from_dict = evaluate_detections(truth, detections)
    assert (truth, detections) == before
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    assert evaluate_detections(tmp_path / "gt.json", detections) == from_dict


@pytest.mark.parametrize("detections", [[], None])
def test_no_predictions(detections, caplog):
    truth, given = one_object(segmentation=rle(blob([20, 20, 40, 40])))
    detections = [d | {"category_id": 9} for d in given] if detections is None else detections
    with caplog.at_level(logging.WARNING):
        results = evaluate_detections(truth, detections)
    for task, result in results.items():
        assert [result[k] for k in ("AP", "AP50", "precision", "recall", "f1", "confidence")] == [0] * 6, task
        assert result["APs"] is None and result["APm"] == 0 and result["per_class"]["sign"]["missed"] == 1
    assert results["bbox"]["per_class"]["x"]["AP"] is None and results["bbox"]["per_class"]["x"]["precision"] is None
    assert "Usual causes" in caplog.text


@pytest.mark.parametrize("kind", ["no annotations", "only crowd", "no images", "no classes"])
def test_no_ground_truth(kind, caplog, tmp_path):
    truth, detections = one_object(iscrowd=1)
    truth["annotations"] = truth["annotations"] if kind == "only crowd" else []
    if kind in ("no images", "no classes"):
        truth[kind.split()[1].replace("classes", "categories")], detections = [], []
    with caplog.at_level(logging.WARNING):
        results = evaluate_detections(truth, detections)
    assert set(results) == {"bbox", "segm", "segm_boxes"}
    for result in results.values():
        assert all(result[k] is None for k in [*AP_METRICS, "precision", "recall", "f1", "confidence"])
        assert result["num_gt"] == 0
    assert "n/a" in caplog.text
    save_results(tmp_path / "results.json", results)


def numbers(value):
    if isinstance(value, (dict, list)):
        for v in value.values() if isinstance(value, dict) else value:
            yield from numbers(v)
    elif not isinstance(value, str):
        yield value


def test_results_are_strict_json_and_never_minus_one(tmp_path):
    truth, detections = random_scene(6, box_only_objects=True)
    results = evaluate_detections(truth, detections)
    save_results(tmp_path / "out" / "results.json", results)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["results.json"]
    values = list(numbers(results))
    assert None in values and all(v is None or (type(v) in (int, float) and v >= 0) for v in values)


def test_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")  # as writing into a full disk says it: without a path

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"No space left on device.*results.json"):
        save_results(tmp_path / "results.json", {})


def test_save_results_refuses_nan_and_keeps_the_old_file(tmp_path):
    save_results(tmp_path / "results.json", {"bbox": {"AP": 1.0}})
    with pytest.raises(ValueError, match=r"bbox/per_class/sign/AP.*nan"):
        save_results(tmp_path / "results.json", {"bbox": {"per_class": {"sign": {"AP": float("nan")}}}})
    with pytest.raises(TypeError):
        save_results(tmp_path / "results.json", {"bbox": object()})
    assert json.loads((tmp_path / "results.json").read_text()) == {"bbox": {"AP": 1.0}}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 77}, "1 of 2 detections: unknown image_id.*77"),
        ({"category_id": 4}, "unknown category_id.*'sign'"),
        ({"score": float("nan")}, "not finite"),
        ({"segmentation": {"size": [5, 5], "counts": "o0"}}, "mask of another size"),
    ],
)
def test_detections_that_would_be_misread_are_refused(changes, message):
    truth, detections = one_object()
    with pytest.raises(ValueError, match=message):
        evaluate_detections(truth, [*detections, detections[0] | changes])


def test_bad_arguments_name_the_way_out():
    truth, detections = one_object()
    with pytest.raises(ValueError, match=r"\['keypoints'\].*'bbox', 'segm'"):
        evaluate_detections(truth, detections, tasks=["keypoints"])
    with pytest.raises(ValueError, match=r"\['signn'\].*'sign'"):
        evaluate_detections(truth, detections, mask_classes=["signn"])
    with pytest.raises(ValueError, match="no height or width, first id 1"):
        evaluate_detections(truth | {"images": [{"id": 1}]}, [], mask_classes=["sign"])
    with pytest.raises(ValueError, match="has no \\['annotations'\\]"):
        evaluate_detections({"images": [], "categories": []}, detections)


@pytest.mark.parametrize("kind", ["polygon", "polygon and a stray point", "compressed", "uncompressed"])
def test_forms_of_ground_truth_masks(kind):
    square = [20.0, 20.0, 60.0, 20.0, 60.0, 60.0, 20.0, 60.0]
    mask = np.zeros(SIZE, dtype=bool)
    mask[20:60, 20:60] = True
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[False], mask.T.ravel(), [False]]).astype(int))), prepend=0)
    forms = {
        "polygon": [square],
        "polygon and a stray point": [[3.0, 3.0], square],
        "compressed": rle(mask),
        "uncompressed": {"size": list(SIZE), "counts": [*runs.tolist(), mask.size - int(runs.sum())]},
    }
    truth, detections = one_object(segmentation=forms[kind])
    detections[0]["segmentation"] = rle(mask)
    assert evaluate_detections(truth, detections)["segm"]["AP"] == pytest.approx(100)


def test_polygons_without_area_are_no_mask():
    square = [20.0, 20.0, 60.0, 20.0, 60.0, 60.0, 20.0, 60.0]
    assert mask_of({"segmentation": [[3.0, 3.0, 9.0, 9.0], square, []]}) == [square]
    for nothing in ({}, {"segmentation": None}, {"segmentation": []}, {"segmentation": [[3.0, 3.0, 9.0, 9.0]]}):
        assert mask_of(nothing) is None
