"""The benchmark: every switch is a variant, and what it measures adds up."""

from reg_d2.config import add_reg_config
from reg_d2.data.catalog import REPOSITORY
from reg_d2.engine.benchmark import VARIANTS, measure, table

from ..models import TINY


def test_each_ablation_of_a_switch_is_measured():
    from detectron2.config import get_cfg

    measured = {key for options in VARIANTS.values() for key in options[::2]}
    for name in ("uncertainty", "free_energy", "primal_dual", "cosine", "proximal"):
        cfg = get_cfg()
        add_reg_config(cfg)
        plain = cfg.clone()
        cfg.merge_from_file(str(REPOSITORY / "configs" / "ablations" / f"{name}.yaml"))
        for head in ("BOX", "MASK"):
            for node in ("UNCERTAINTY", "PRIMAL_DUAL", "COSINE", "REFINEMENT"):
                ours, default = cfg.MODEL.REG[head].get(node), plain.MODEL.REG[head].get(node)
                if ours is not None and ours.ENABLED and not default.ENABLED:
                    assert f"MODEL.REG.{head}.{node}.ENABLED" in measured, name


def test_times_and_memory_of_a_variant_are_measured_against_reg():
    config = str(REPOSITORY / "configs" / "small-REG-R18-FPN.yaml")
    variants = {name: VARIANTS[name] for name in ("REG", "all")}
    rows = measure(config, TINY, batch=1, size=(96, 64), steps=2, variants=variants)
    assert [row["name"] for row in rows] == ["REG", "all"]
    for row in rows:
        assert 0 < row["losses"] < row["step"]
    assert rows[1]["memory"] > rows[0]["memory"], "the variance heads and multipliers are held, too"
    printed = table(rows)
    assert all(len(line) == 5 for line in printed)


def test_the_difference_is_of_steps_taken_together():
    reference = {"name": "REG", "times": [1.0, 2.0, 4.0], "step": 2.0, "losses": 0.1, "memory": 10.0}
    row = {**reference, "name": "all", "times": [1.1, 2.4, 4.4], "step": 2.4}
    printed = table([reference, row])
    assert printed[0][2] == "" and printed[1][1] == "2.400"
    assert printed[1][2] == "+10.0 % (+10.0 to +15.0)", "the medians alone would say +20 %"
