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
    assert names == set(rows) - {"reg", "primal_dual_rate_0", "everything"}


@pytest.mark.parametrize("dataset", ["highway", "track_signs"])
def test_a_row_changes_what_its_file_says_and_nothing_else(dataset, tmp_path):
    runs = all_runs(load_study(switches.STUDY), tmp_path, tmp_path)
    config = {r.row: r.config for r in runs if r.dataset == dataset and r.seed == 0}
    changed = {k for k in config["reg"] | config["cosine"] if config["reg"].get(k) != config["cosine"].get(k)}
    assert changed == {"MODEL.REG.BOX.COSINE.ENABLED"}
    assert config["cosine"]["MODEL.REG.BOX.COSINE.ENABLED"] is True


def test_the_page_holds_what_the_runs_wrote(tmp_path):
    for run in all_runs(load_study(switches.STUDY), tmp_path / "runs", tmp_path):
        i = ["primal_dual", "primal_dual_rate_0"].index(run.row) if run.row.startswith("primal_dual") else 0
        if run.seed == 0:
            run.folder.mkdir(parents=True)
            losses = {"reg/box_class_loss/a": 1.0, "reg/box_class_loss/b": 2.4 - i / 5}
            lines = [{"iteration": step, "reg/box_sigma": 0.1, **losses} for step in (19, 39, 59, 79)]
            (run.folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "docs" / "images").mkdir(parents=True)
    switches.write(switches.folders(tmp_path / "runs", 0), 0, tmp_path / "docs")
    page = (tmp_path / "docs" / "switches.md").read_text()
    # Two classes, 1 and b: deviation over mean is (b - 1) / (b + 1), here with b = 2.2 and b = 2.4.
    assert "| highway | box | 0.375 | 0.412 |" in " ".join(page.split())
    for name, _, _ in switches.FIGURES:
        assert (tmp_path / "docs" / "images" / f"{name}.png").stat().st_size > 5000 and f"images/{name}.png" in page


def test_without_runs_it_says_what_to_run(tmp_path):
    with pytest.raises(SystemExit, match=r"run tools/ablate\.py first"):
        switches.folders(tmp_path, 0)
