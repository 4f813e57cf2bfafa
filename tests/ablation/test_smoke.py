"""configs/studies/smoke.yaml, all of it: real trainings on made data, the table, the figure."""

import csv
import json

import pytest

from reg_d2.data.catalog import REPOSITORY

from ..tools.loading import load_tool

STUDY = REPOSITORY / "configs/studies/smoke.yaml"


def test_the_smoke_study_runs_and_is_not_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REG_D2_DATASETS", str(tmp_path / "datasets"))
    tool = load_tool("ablate")
    folder = tmp_path / "results/smoke"
    arguments = [str(STUDY), "--results", str(folder.parent), "--output", str(tmp_path / "output")]
    assert tool.main([*arguments, "--jobs", "2"]) == 0, capsys.readouterr().out
    results = {path.stem: json.loads(path.read_text()) for path in (folder / "highway").glob("*.json")}
    assert set(results) == {f"{row}-seed{seed}" for row in ("cross_entropy", "reg", "strict_nms") for seed in (0, 1)}
    for result in results.values():
        assert {"AP", "AP50", "f1", "AP_head", "AP_tail", "AP_rarest"} <= set(result["metrics"]["bbox"])
        assert set(result["metrics"]) == {"bbox", "segm", "segm_boxes"}
        assert result["metrics"]["bbox"]["rarest_classes"] == ["bus stop", "pedestrian bridge"]
        assert {"highway_smoke_train", "highway_smoke_val"} == set(result["data"])
    trained, evaluated = results["reg-seed0"], results["strict_nms-seed0"]
    assert evaluated["cost"] == {}
    assert trained["cost"]["steps"] == 6
    assert 0 < trained["cost"]["step_time"] < trained["cost"]["seconds"]
    assert 50 < trained["cost"]["peak_memory"] < 20000, "MiB"
    assert (trained["hardware"]["workers"], trained["hardware"]["side_by_side"]) == (1, 2)
    assert trained["hardware"]["device"]
    assert trained["config"]["MODEL.REG.BOX.LOSS"] == "reg"
    lines = {line["row"]: line for line in csv.DictReader((folder / "table.csv").open()) if line["metric"] == "bbox/AP"}
    assert {(row, line["n"], line["versus"], line["pairs"]) for row, line in lines.items()} == {
        ("cross_entropy", "2", "", ""),
        ("reg", "2", "cross_entropy", "2"),
        ("strict_nms", "2", "cross_entropy", "2"),
    }
    ap = {name: result["metrics"]["bbox"]["AP"] for name, result in results.items()}
    differences = [ap[f"reg-seed{seed}"] - ap[f"cross_entropy-seed{seed}"] for seed in (0, 1)]
    assert float(lines["reg"]["difference"]) == pytest.approx(sum(differences) / 2, abs=1e-4)
    assert (folder / "table.md").is_file() and "<svg" in (folder / "highway.svg").read_text()
    capsys.readouterr()
    assert tool.main([*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().out == "", "nothing is left to do"
    assert tool.main([*arguments, "--status"]) == 0
    assert "smoke: 6 of 6 done" in capsys.readouterr().out
