"""tools/evaluate.py on drawn data: result files of other tools, comparison, calibration, a checkpoint, wrong input."""

import json

import pytest
import torch

from reg_d2.data.coco import ClassInfo
from reg_d2.engine.setup import load_config, set_classes
from reg_d2.evaluation import Calibrator, bootstrap, evaluate_detections, match_detections

from ..models import TINY
from ..report.synthetic import BOX_ONLY, CLASSES, detections, make_data
from .test_predict import ROOT, load_tool

# isort: split
from detectron2.modeling import build_model

evaluate = load_tool("evaluate")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two splits with a catalogue, and result files on them."""
    folder = tmp_path_factory.mktemp("data")
    lines = []
    for split, seed in (("val", 0), ("other", 5)):
        truth = make_data(folder / split, num_images=8, seed=seed)
        for name, options in (("a", {}), ("b", {"missed": 0.4, "seed": 2})):
            (folder / f"{name}_{split}.json").write_text(json.dumps(detections(truth, **options)))
        lines.append(f"{split}: {{json: {folder / split / 'truth.json'}, images: {folder / split / 'images'}}}")
    (folder / "catalog.yaml").write_text("\n".join(lines))
    return folder


def call(data, output, *arguments):
    catalog = str(data / "catalog.yaml")
    return evaluate.main(["--dataset", "val", "--catalog", catalog, "--output", str(output), *map(str, arguments)])


def test_two_result_files(data, tmp_path, capsys):
    files = [f"REG={data / 'a_val.json'}", data / "b_val.json"]
    scalers = ["--calibration-dataset", "other", "--calibration-results", data / "a_other.json", data / "b_other.json"]
    assert call(data, tmp_path, "--results", *files, *scalers, "--bootstrap", 20, "--train-dataset", "other") == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["runs"]) == ["REG", "b_val"] and results["dataset"] == "val"
    truth = data / "val/truth.json"
    expected = evaluate_detections(truth, data / "b_val.json")
    for task in ("bbox", "segm", "segm_boxes"):
        assert results["runs"]["b_val"][task]["AP"] == pytest.approx(expected[task]["AP"])
        assert set(results["runs"]["b_val"][task]["by_frequency"]) == {"head", "middle", "tail"}
    intervals = bootstrap(match_detections(truth, data / "a_val.json"), resamples=20)
    assert results["intervals"]["REG"]["bbox"]["AP"] == pytest.approx(intervals["bbox"]["AP"])
    assert results["differences"]["b_val - REG"]["bbox"]["AP"]["difference"] == pytest.approx(
        results["runs"]["b_val"]["bbox"]["AP"] - results["runs"]["REG"]["bbox"]["AP"]
    )
    assert set(results["calibrated"]["REG"]["bbox"]) == {"isotonic", "temperature"}
    assert Calibrator.from_json(tmp_path / "calibrators/REG_bbox_isotonic.json").names == list(CLASSES)
    assert "b_val − REG" in (tmp_path / "report.html").read_text()
    assert "Table 1" in capsys.readouterr().out


def test_checkpoint_beside_a_peer(data, tmp_path):
    classes = ClassInfo(CLASSES, (9, 8, 7, 6, 5), tuple(0 if n in BOX_ONLY else 5 for n in CLASSES))
    options = [*map(str, TINY), "INPUT.MIN_SIZE_TEST", "64", "DATALOADER.NUM_WORKERS", "0"]
    options += ["TEST.DETECTIONS_PER_IMAGE", "10"]
    cfg = load_config(ROOT / "configs/small-REG-R18-FPN.yaml", options)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    set_classes(cfg, classes)
    torch.manual_seed(0)
    state = {"names": list(CLASSES), "box_counts": [9, 8, 7, 6, 5], "mask_counts": list(classes.mask_counts)}
    torch.save({"model": build_model(cfg).state_dict(), "classes": state}, tmp_path / "model_final.pth")
    weights, peer = f"mine={tmp_path / 'model_final.pth'}", data / "a_val.json"
    output = tmp_path / "out"
    assert call(data, output, "--weights", weights, "--results", peer, "--bootstrap", 0) == 0
    results = json.loads((output / "results.json").read_text())
    assert list(results["runs"]) == ["mine", "a_val"] and results["intervals"] == {}
    found = output / "inference/mine/val/coco_instances_results.json"
    expected = evaluate_detections(data / "val/truth.json", found)["bbox"]["AP50"]
    assert results["runs"]["mine"]["bbox"]["AP50"] == pytest.approx(expected)
    html = (output / "report.html").read_text()
    assert "Difference from the base" in html and "weight, boxes" in html


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to evaluate"),
        (("--results", "nowhere.json"), "nowhere.json"),
        (("--results", "a=x.json", "--calibration-results", "x.json"), "--calibration-dataset"),
        (("--results", "x.json", "--train-dataset", "trian"), "'trian' is not in the catalogue"),
        (("--weights", "nowhere.pth"), "nowhere.pth"),
        (("--results", "{a}", "{a}", "--bootstrap", "0"), "more than once"),
    ],
)
def test_wrong_input(data, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        call(data, tmp_path, *(a.format(a=data / "a_val.json") for a in arguments))
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("reg=out/x.json", "reg"),
        ("out/yolo.json", "yolo"),
        ("out/a/model_final.pth", "a"),
        ("a/coco_instances_results.json", "a"),
    ],
)
def test_names(given, name):
    assert evaluate.named(given) == (name, given.rpartition("=")[2])
