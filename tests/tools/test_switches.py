"""benchmarks/switches.py and its study: each switch is a row; the page is made from the runs' own files."""

import importlib.util
import json

import pytest
import yaml

from reg_d2.ablation.runs import all_runs
from reg_d2.ablation.study import load_study
from reg_d2.data.catalog import REPOSITORY

spec = importlib.util.spec_from_file_location("switches", REPOSITORY / "benchmarks" / "switches.py")
switches = importlib.util.module_from_spec(spec)
spec.loader.exec_module(switches)
ABLATIONS = REPOSITORY / "configs" / "ablations"


def test_every_ablation_of_the_model_is_a_row_of_the_study():
    rows = load_study(switches.STUDY).rows
    names = {path.stem for path in ABLATIONS.glob("*.yaml") if "MODEL" in yaml.safe_load(path.read_text())}
    assert names == set(rows) - {"reg", "primal_dual_rate_0", "sigmoid_slow", "everything"}


@pytest.mark.parametrize("dataset", ["highway", "track_signs"])
def test_a_row_changes_what_its_file_says_and_nothing_else(dataset, tmp_path):
    runs = all_runs(load_study(switches.STUDY), tmp_path, tmp_path)
    config = {r.row: r.config for r in runs if r.dataset == dataset and r.seed == 0}
    changed = {k for k in config["reg"] | config["cosine"] if config["reg"].get(k) != config["cosine"].get(k)}
    assert changed == {"MODEL.REG.BOX.COSINE.ENABLED"}
    assert config["cosine"]["MODEL.REG.BOX.COSINE.ENABLED"] is True


@pytest.fixture
def trained(tmp_path):
    """Folder of runs, folder of results and the runs drawn, on highway alone: made under a default that changed."""
    output, results = tmp_path / "runs", tmp_path / "results"
    runs = {}
    for run in all_runs(load_study(switches.STUDY), output, results):
        if run.seed == 0 and run.dataset == "highway" and run.row in switches.ROWS:
            runs[run.row] = folder = run.folder.with_name(f"{run.row}-seed0-0123456789ab")
            folder.mkdir(parents=True)
            logged = {"reg/box_class_loss/a": 1.0, "reg/box_class_loss/b": 2.2 if run.row == "primal_dual" else 2.4}
            for head in ("box", "mask"):
                logged |= {f"reg/{head}_{k}": 0.1 for k in ("sigma", "g_mean")} | {f"reg/{head}_class_loss/a": 1.0}
                logged |= {f"reg/{head}_beta/a": 10.0, f"reg/{head}_delta/a": 0.15, f"reg/{head}_delta/b": 0.45}
            lines = [{"iteration": step, **logged} for step in (19, 39, 59, 79)]
            (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
            run.result.parent.mkdir(parents=True, exist_ok=True)
            stored = {key: getattr(run, key) for key in ("study", "dataset", "row", "seed", "config")}
            run.result.write_text(json.dumps({**stored, "config_hash": "0123456789ab", "metrics": {}}))
    return output, results, runs


def test_the_page_holds_what_the_runs_wrote(tmp_path, trained):
    output, results, _ = trained
    (tmp_path / "docs" / "images").mkdir(parents=True)
    switches.write(switches.folders(output, results, 0), 0, tmp_path / "docs")
    page = " ".join((tmp_path / "docs" / "switches.md").read_text().split())
    # Two classes, 1 and b: deviation over mean is (b - 1) / (b + 1), here with b = 2.4 and b = 2.2.
    assert "| highway | box | 0.412 | 0.375 |" in page
    # delta 0.15 and 0.45 over the start of 0.15.
    assert "| highway | mask | 1.00 to 3.00 | 1.00 to 3.00 | 1.00 to 1.00 | 1.00 to 1.00 |" in page
    assert "track_signs" not in page
    for name, *_ in switches.FIGURES:
        assert (tmp_path / "docs" / "images" / f"{name}.png").stat().st_size > 5000 and f"images/{name}.png" in page


def test_a_missing_run_is_named_and_nothing_is_drawn(trained):
    output, results, runs = trained
    (runs["free_energy"] / "metrics.json").unlink()
    with pytest.raises(SystemExit, match=r"highway, free_energy: no .*0123456789ab.metrics\.json") as stop:
        switches.folders(output, results, 0)
    assert "primal_dual" not in str(stop.value) and "track_signs" not in str(stop.value)


def test_without_runs_it_says_what_to_run(tmp_path):
    with pytest.raises(
        SystemExit, match=r"no result in .*(\n.*)+python tools/ablate\.py configs/studies/switches\.yaml"
    ):
        switches.folders(tmp_path, tmp_path, 0)
