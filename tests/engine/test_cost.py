"""What a training costs is measured over all its parts, and reports are written where they are wanted."""

import json

import pytest

from .running import trainer


def test_cost_adds_up_over_a_cut_and_a_resumed_part(workspace, tmp_path):
    options = ["SOLVER.MAX_ITER", 7, "SOLVER.CHECKPOINT_PERIOD", 3, "TEST.REPORT", False]
    cut = trainer(workspace, *options)
    cut.model.register_forward_pre_hook(lambda *_: 1 / 0 if cut.iter == 5 else None)
    with pytest.raises(ZeroDivisionError):
        cut.train()
    first = json.loads((tmp_path / "out" / "cost.json").read_text())
    assert first["steps"] == 5
    resumed = trainer(workspace, *options, resume=True)
    assert resumed.start_iter == 3
    resumed.train()
    cost = json.loads((tmp_path / "out" / "cost.json").read_text())
    assert cost["steps"] == 7, "three in the checkpoint, four after it: what was lost is not counted"
    assert cost["seconds"] > sum(value for value, _ in resumed.storage.history("time").values())
    assert 0 <= cost["data_time"] < cost["step_time"] < cost["seconds"]
    assert 50 < cost["peak_memory"] < 50000
    assert cost["hardware"]["workers"] == 1 and "threads" in cost["hardware"]["device"]
    assert (tmp_path / "out" / "results.json").is_file()
    assert not (tmp_path / "out" / "report.html").exists()
