"""Runs whose data, config or training are no longer those of a stored result or of a cut run; rows done again."""

import hashlib
import json
import os
import signal
import sys

import pytest

from reg_d2.ablation import options, runs
from reg_d2.ablation.data import data_files, fingerprints
from reg_d2.ablation.execution import begin
from reg_d2.ablation.locks import RunLock
from reg_d2.ablation.options import config_hash
from reg_d2.ablation.results import changes, find_equal, read_result, read_results
from reg_d2.ablation.runs import progress_of, state_of
from reg_d2.config import add_reg_config
from reg_d2.engine import load_config

from .conftest import wait_until


def test_a_run_on_other_data_is_not_the_same_run(workshop):
    workshop.write(seeds=[0])
    assert workshop.main("--rows", "plain") == 0
    workshop.file = workshop.file.with_name("second.yaml")
    workshop.write()
    workshop.data = {"roads_train": "ba9876543210"}
    assert workshop.main("--rows", "plain") == 0
    assert len(workshop.steps("plain0")) == 25


def test_results_on_other_data_are_reported_and_not_used(workshop, capsys):
    workshop.content["rows"]["halved"] = {"evaluate_of": "better", "set": {"MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3}}
    workshop.write(seeds=[0])
    assert workshop.main() == 0
    workshop.data = {}
    assert workshop.main() == 0, "made elsewhere: the data are not here"
    workshop.data = {"roads_train": "ba9876543210", "roads_val": "new"}
    capsys.readouterr()
    assert workshop.main("--status") == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "plain-seed0 was made with other data: data of roads_train were 0123456789ab, are ba9876543210" in printed
    assert workshop.main("--tables-only") == 0
    assert "plain, seed 0, is left out: it was made with other" in (workshop.results / "trial/table.md").read_text()
    workshop.runs()["halved0"].result.unlink()
    assert workshop.main() == 1
    assert "better-seed0 was made under another config or data" in capsys.readouterr().out, "its checkpoint is old, too"
    assert workshop.main("--rerun-changed") == 0
    assert json.loads(workshop.runs()["plain0"].result.read_text())["data"] == workshop.data
    assert len(workshop.steps("plain0")) == 2 * 25


def test_a_cut_run_whose_data_have_changed_starts_afresh(workshop):
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 300, "WARMUP_ITERS": 10}})
    for goal, data in ((12, "one"), (24, "one"), (36, "two")):
        workshop.data = {"roads_train": data}
        process = workshop.fork("--rows", "plain")
        wait_until(lambda goal=goal: len(workshop.steps("plain0")) >= goal)
        os.kill(process.pid, signal.SIGINT)
        process.join(30)
    steps = [step for _, step in workshop.steps("plain0")]
    begun = [i for i, step in enumerate(steps) if step == 0]
    assert len(begun) == 2 and begun[1] >= 24, "it went on over the same data, and began again over others"


def test_where_batch_and_rate_are_scaled_to_the_workers_their_number_counts(workshop):
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 25, "WARMUP_ITERS": 2, "REFERENCE_WORLD_SIZE": 4}})
    run = workshop.runs()["plain0"]
    assert workshop.main("--rows", "plain") == 0
    stored, broken = read_results(workshop.results)
    assert not broken
    assert find_equal(workshop.results, stored, run, 1) and find_equal(workshop.results, stored, run, 2) is None
    (run.folder / "metrics.json").write_text('{"iteration": 24}')
    assert progress_of(run) == 0.25, "100 steps of one worker are 25 of four"
    begin(run, run.data, 1)
    assert run.weights.is_file()
    begin(run, run.data, 2)
    assert not run.weights.is_file(), "what one worker has begun is not continued by two"


def test_a_new_config_key_abandons_neither_evaluations_nor_checkpoints(workshop, monkeypatch):
    workshop.content["rows"]["halved"] = {"evaluate_of": "plain", "set": {"MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3}}
    workshop.write(seeds=[0])
    assert workshop.main("--rows", "plain", "halved") == 0
    before = dict(workshop.runs())
    old = json.loads(before["halved0"].result.read_text())
    (before["plain0"].folder.parent / "plain-seed0-0123456789ab").mkdir()

    def add_key(cfg):
        add_reg_config(cfg)
        cfg.MODEL.REG.BRAND_NEW = False

    monkeypatch.setattr(sys.modules["reg_d2.engine.setup"], "add_reg_config", add_key)
    monkeypatch.setattr(options, "add_reg_config", add_key)
    for cached in (runs._base_config, options._defaults):
        cached.cache_clear()
    workshop.write(description="read again")
    after = workshop.runs()
    assert config_hash(after["plain0"].config) != config_hash(before["plain0"].config)
    assert {name: run.folder for name, run in after.items() if name != "better0"} == {
        name: run.folder for name, run in before.items() if name != "better0"
    }
    assert state_of(after["plain0"]) == state_of(after["halved0"]) == "done"
    # Results of before have the hash alone: that of the stored training.
    del old["source_config"]
    before["halved0"].result.write_text(json.dumps(old))
    assert state_of(after["halved0"]) == "done"
    after["plain0"].result.unlink()
    assert state_of(after["halved0"]) == "changed"
    for cached in (runs._base_config, options._defaults):
        cached.cache_clear()


def test_an_evaluation_of_another_training_is_changed(workshop):
    workshop.content["rows"]["halved"] = {"evaluate_of": "plain", "set": {"TEST.DETECTIONS_PER_IMAGE": 9}}
    workshop.write(seeds=[0])
    assert workshop.main("--rows", "plain", "halved") == 0
    workshop.content["rows"]["plain"]["set"]["SOLVER.BASE_LR"] = 0.25
    workshop.write()
    run = workshop.runs()["halved0"]
    assert changes(read_result(run.result), run) == {"SOLVER.BASE_LR": (0.2, 0.25)}
    assert not run.folder.exists()


def test_a_row_done_again_takes_its_evaluations_with_it(workshop):
    workshop.content["rows"]["halved"] = {"evaluate_of": "plain", "set": {"TEST.DETECTIONS_PER_IMAGE": 9}}
    workshop.write(seeds=[0])
    assert workshop.main() == 0
    calls = workshop.runs()["halved0"].folder / "calls.txt"
    assert workshop.main("--rows", "plain", "--rerun", "plain") == 0
    assert len(workshop.steps("plain0")) == 2 * 25 and len(workshop.steps("better0")) == 25
    assert len(calls.read_text().splitlines()) == 2, "its number was that of the first checkpoint"
    assert workshop.main("--rerun", "halved") == 0
    assert len(workshop.steps("plain0")) == 2 * 25 and len(calls.read_text().splitlines()) == 3


def test_an_evaluation_is_not_given_up_for_a_checkpoint_that_stays_changed(workshop, capsys):
    workshop.content["rows"]["halved"] = {"evaluate_of": "plain", "set": {"TEST.DETECTIONS_PER_IMAGE": 9}}
    workshop.write(seeds=[0])
    assert workshop.main() == 0
    workshop.content["rows"]["plain"]["set"]["SOLVER.BASE_LR"] = 0.25
    workshop.write()
    old = workshop.runs()["halved0"].result.read_text()
    assert workshop.main("--rows", "halved", "--rerun-changed") == 1
    assert workshop.runs()["halved0"].result.read_text() == old
    assert workshop.main("--rows", "plain", "halved", "--rerun-changed") == 0
    assert workshop.runs()["halved0"].result.read_text() != old


def test_what_is_in_progress_is_not_deleted(workshop, capsys):
    workshop.write(seeds=[0])
    assert workshop.main() == 0
    run = workshop.runs()["better0"]
    lock = RunLock(run.lock)
    assert lock.acquire()
    with pytest.raises(SystemExit):
        workshop.main("--rerun", "plain", "better")
    assert "roads/better-seed0 is in progress: wait for its end" in capsys.readouterr().err
    lock.release()
    assert run.weights.is_file() and run.result.is_file() and workshop.runs()["plain0"].result.is_file()


def test_fingerprints_are_those_of_the_files_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("REG_D2_DATASETS", str(tmp_path))
    cfg = load_config("configs/studies/base/highway.yaml")
    (train, train_file), (val, _) = files = data_files(cfg)
    assert (train, val) == (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    train_file.parent.mkdir()
    train_file.write_text("{}")
    assert fingerprints(files) == {train: hashlib.sha256(b"{}").hexdigest()[:12]}
    cfg.DATASETS.CATALOG = "elsewhere.yaml"
    assert data_files(cfg) == ()


def test_results_of_another_config_are_reported_and_not_used(workshop, capsys):
    workshop.write(seeds=[0, 1])
    workshop.main()
    workshop.content["rows"]["better"]["set"]["SOLVER.BASE_LR"] = 0.4
    workshop.write()
    capsys.readouterr()
    assert workshop.main() == 1
    printed = capsys.readouterr().out
    assert "roads/better-seed0 was made under another config: SOLVER.BASE_LR was 0.3, is 0.4" in printed
    assert "--rerun-changed" in printed
    table = (workshop.results / "trial/table.csv").read_text()
    assert "plain" in table and "better" not in table
    assert "better, seed 0, is left out" in (workshop.results / "trial/table.md").read_text()
    assert workshop.main("--rerun-changed") == 0
    assert json.loads(workshop.runs()["better0"].result.read_text())["metrics"]["bbox"]["AP"] == pytest.approx(40)
    assert len(workshop.steps("plain0")) == 25, "what had not changed is not done again"
