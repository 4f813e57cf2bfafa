"""The studies of this repository: they load, and their rows are what they are called."""

import pytest

from reg_d2.ablation.options import changed_keys, config_hash, deciding
from reg_d2.ablation.runs import all_runs
from reg_d2.ablation.study import load_study
from reg_d2.data.catalog import REPOSITORY, read_catalog
from reg_d2.engine import load_config

READY = sorted((REPOSITORY / "configs" / "studies").glob("*.yaml"))
PEERS = REPOSITORY / "projects" / "longtail_losses"
SIZES = {"A": "REG-A-R18", "B": "REG-B-R34", "C": "REG-C-R50", "D": "REG-D-R101", "E": "REG-E-X101"}
# Widths of Detectron2's networks of bottlenecks.
DETECTRON2 = {"RES2_OUT_CHANNELS": 256, "NUM_GROUPS": 1, "WIDTH_PER_GROUP": 64, "STEM_OUT_CHANNELS": 64}


@pytest.mark.parametrize("path", READY, ids=lambda p: p.stem)
def test_ready_studies_load_and_every_row_is_a_config(path, tmp_path):
    if "longtail_losses" in path.read_text() and not PEERS.is_dir():
        pytest.skip("the peers are not part of this checkout")
    study = load_study(path)
    runs = all_runs(study, tmp_path, tmp_path)
    assert len(runs) == sum(len(d.rows) * len(d.seeds) for d in study.datasets.values())
    for name, dataset in study.datasets.items():
        rows = {r.row: config_hash(r.config) for r in runs if r.dataset == name and r.seed == dataset.seeds[0]}
        assert len(set(rows.values())) == len(rows), f"two rows of {path.stem} are the same config: {rows}"
    catalog = read_catalog("configs/datasets.yaml")
    for run in runs:
        assert {*run.config.get("DATASETS.TRAIN"), *run.config.get("DATASETS.TEST")} <= set(catalog)


def test_the_components_build_on_one_another(tmp_path):
    study = load_study(REPOSITORY / "configs/studies/components.yaml")
    runs = {r.row: r.config for r in all_runs(study, tmp_path, tmp_path) if r.dataset == "highway" and r.seed == 0}
    every = runs["all"]
    for key in (
        "MODEL.REG.BOX.UNCERTAINTY.FREE_ENERGY.ENABLED",
        "MODEL.REG.MASK.PRIMAL_DUAL.ENABLED",
        "MODEL.REG.BOX.COSINE.ENABLED",
        "MODEL.REG.MASK.REFINEMENT.LEARNED",
        "MODEL.REG.LAMBDA.LEARNED",
    ):
        assert every[key] is True
        assert runs["split"][key] is False
    assert {k for k in runs["near"] if runs["near"][k] != runs["far"].get(k)} == {
        "MODEL.REG.BOX.REFINEMENT.DIRECTION",
        "MODEL.REG.MASK.REFINEMENT.DIRECTION",
    }


def test_the_studies_default_is_that_of_the_configs(tmp_path):
    study = load_study(REPOSITORY / "configs/studies/schedule.yaml")
    run = next(r for r in all_runs(study, tmp_path, tmp_path) if r.row == "reg_1x" and r.seed == 0)
    assert changed_keys(deciding(load_config(REPOSITORY / "configs/studies/base/highway.yaml")), run.config) == {
        # The same draws by Detectron2's keys: tests/data/test_sampling.py.
        "DATALOADER.REPEAT_THRESHOLD": (0.0, 1.0),
        "DATALOADER.SAMPLER_TRAIN": ("TrainingSampler", "RepeatFactorTrainingSampler"),
        "DATALOADER.SAMPLING.METHOD": ("repeat_factor", "uniform"),
        "DATALOADER.SAMPLING.THRESHOLD": (1.0, 0.0),
    }


def test_the_sizes_are_those_of_the_configs_at_full_width_and_a_quarter_as_wide_on_two_cores(tmp_path):
    def rows(study):
        runs = all_runs(load_study(REPOSITORY / "configs/studies" / study), tmp_path, tmp_path)
        return {r.row: r.config for r in runs if r.dataset == "highway" and r.seed == 0}

    full, narrow = rows("full_size.yaml"), rows("sizes.yaml")
    full["A"] = full["reg"]
    for row, file in SIZES.items():
        config = deciding(load_config(REPOSITORY / f"configs/{file}.yaml"))
        size = ("MODEL.RESNETS.", "MODEL.BACKBONE.", "MODEL.FPN.")
        assert {k: v for k, v in full[row].items() if k.startswith(size)} == {
            k: v for k, v in config.items() if k.startswith(size)
        }
        assert narrow[row].get("MODEL.RESNETS.DEPTH", 50) == config.get("MODEL.RESNETS.DEPTH", 50)

    def widths(config):
        resnet = {k: config.get(f"MODEL.RESNETS.{k}", v) for k, v in DETECTRON2.items()}
        return (
            resnet["RES2_OUT_CHANNELS"],
            resnet["NUM_GROUPS"] * resnet["WIDTH_PER_GROUP"],
            resnet["STEM_OUT_CHANNELS"],
        )

    for row in ("C", "D", "E"):
        assert widths(full[row]) == tuple(4 * width for width in widths(narrow[row]))
    for row in ("A", "B"):  # basic blocks, and the narrow builder's stem as wide as they are
        assert narrow[row]["MODEL.RESNETS.RES2_OUT_CHANNELS"] * 4 == full[row]["MODEL.RESNETS.RES2_OUT_CHANNELS"] == 64
