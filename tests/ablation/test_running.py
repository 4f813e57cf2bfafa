"""Running a study: what is missing, cut, failed and changed; kills, Ctrl-C, and two at once."""

import hashlib
import json
import os
import signal
import sys
import threading
import time

import pytest

from reg_d2.ablation import command as command_module
from reg_d2.ablation import local, options, runs
from reg_d2.ablation.data import data_files, fingerprints
from reg_d2.ablation.execution import begin
from reg_d2.ablation.local import least_used, share_of_cores
from reg_d2.ablation.locks import RunLock, is_locked
from reg_d2.ablation.options import config_hash
from reg_d2.ablation.results import changes, find_equal, read_result, read_results
from reg_d2.ablation.runs import progress_of, state_of
from reg_d2.ablation.study import StudyError
from reg_d2.config import add_reg_config
from reg_d2.engine import load_config

from .conftest import wait_until


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_study_is_run_once_and_leaves_numbers_tables_and_a_figure(workshop, capsys):
    assert workshop.main("--jobs", 2) == 0
    printed = capsys.readouterr().out
    assert "[4/4]" in printed and "roads/better-seed1: done (box AP 30.1, mask AP 27.1)" in printed
    result = json.loads((workshop.results / "trial/roads/better-seed1.json").read_text())
    assert (result["row"], result["seed"], result["dataset"], result["study"]) == ("better", 1, "roads", "trial")
    assert result["metrics"]["bbox"]["AP"] == pytest.approx(30.1)
    # The rarest two of 60 signs, 30 poles and 10 rails are poles and rails; each class is as many tenths better.
    assert result["metrics"]["bbox"]["rarest_classes"] == ["rail", "pole"]
    assert result["metrics"]["bbox"]["AP_rarest"] == pytest.approx(30.1 + 2.0)
    assert result["cost"] == {"steps": 1, "step_time": 0.1, "data_time": 0.01, "seconds": 1.0, "peak_memory": 100.0}
    assert result["hardware"] == {"device": "an abacus", "workers": 1, "side_by_side": 2}
    assert set(result["versions"]) >= {"torch"} and result["git_commit"] and result["data"]
    assert result["config"]["SOLVER.BASE_LR"] == 0.3 and len(result["config_hash"]) == 12
    for file in ("table.md", "table.csv", "roads.svg"):
        assert (workshop.results / "trial" / file).is_file()
    before = {run.name: run.folder.joinpath("calls.txt").read_text() for run in workshop.runs().values()}
    assert workshop.main() == 0
    after = {run.name: run.folder.joinpath("calls.txt").read_text() for run in workshop.runs().values()}
    assert after == before, "what is done is not done again"


def test_the_last_checkpoint_stays_and_the_others_go_unless_they_are_wanted(workshop):
    workshop.write(seeds=[0])
    workshop.main("--rows", "plain")
    assert [p.name for p in workshop.runs()["plain0"].folder.glob("*.pth")] == ["model_final.pth"]
    workshop.main("--rerun", "plain", "--rows", "plain", "--keep", "none")
    assert not list(workshop.runs()["plain0"].folder.glob("*.pth"))
    assert not (workshop.runs()["plain0"].folder / "last_checkpoint").exists(), "it would name what is not there"
    assert len(workshop.steps("plain0")) == 2 * 25, "--rerun starts from the start"
    workshop.main("--keep", "all")
    assert len(list(workshop.runs()["better0"].folder.glob("*.pth"))) == 3


def test_dry_run_prints_commands_that_do_it(workshop, capsys):
    assert workshop.main("--dry-run", "--rows", "better", "--seeds", 1, "--num-gpus", 4) == 0
    (line,) = capsys.readouterr().out.splitlines()
    run = workshop.runs()["better1"]
    assert "fake_train.py --config-file " in line and " --num-gpus 4 --resume " in line
    assert " SOLVER.BASE_LR 0.3 SEED 1 TEST.REPORT False " in line and line.endswith(f"OUTPUT_DIR {run.folder}")
    assert not workshop.output.exists() and not workshop.results.exists()
    assert os.system(line + " > /dev/null") == 0
    assert (run.folder / "results.json").exists()


def test_dry_run_says_as_comments_what_is_no_command(workshop, capsys):
    workshop.content["rows"]["halved"] = {"evaluate_of": "plain", "set": {"TEST.DETECTIONS_PER_IMAGE": 9}}
    workshop.content["rows"]["twin"] = {"set": {"SOLVER.BASE_LR": 0.2}}
    workshop.write(seeds=[0])
    assert workshop.main("--rows", "plain", "halved", "better") == 0
    workshop.content["rows"]["better"]["set"]["SOLVER.BASE_LR"] = 0.4
    workshop.write()
    before = {path: path.read_bytes() for path in workshop.results.rglob("*.json")}

    def printed(*flags):
        capsys.readouterr()
        assert workshop.main("--dry-run", *flags) == 0
        lines = capsys.readouterr().out.splitlines()
        return [line for line in lines if line[0] == "#"], [line for line in lines if line[0] != "#"]

    comments, commands = printed()
    assert "# roads/twin-seed0 is the same run as" in comments[0] and "its numbers would be taken" in comments[0]
    assert "# roads/better-seed0 was made under another config" in comments[1] and not commands
    comments, (better,) = printed("--rerun-changed", "--slurm", "gpus=4", "minutes=9")
    assert comments[0] == "# each run is a job: gpus_per_node=4 timeout_min=9"
    assert " SOLVER.BASE_LR 0.4 " in better and " --num-gpus 4 " in better and "--resume" not in better
    _, (plain, halved) = printed("--rerun", "plain")
    assert "--resume" not in plain and "--eval-only" in halved
    lock = RunLock(workshop.runs()["plain0"].lock)
    assert lock.acquire()
    comments, (halved,) = printed("--rerun", "plain")
    assert "# roads/plain-seed0 is in progress" in comments
    lock.release()
    assert {path: path.read_bytes() for path in workshop.results.rglob("*.json")} == before


def test_an_evaluation_takes_the_checkpoints_of_its_row(workshop):
    workshop.content["rows"]["halved"] = {"evaluate_of": "better", "set": {"MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3}}
    workshop.write(seeds=[2])
    assert workshop.main("--jobs", 3, "--keep", "none") == 0
    run = workshop.runs()["halved2"]
    call = (run.folder / "calls.txt").read_text()
    assert "--eval-only" in call and f"MODEL.WEIGHTS {workshop.runs()['better2'].weights}" in call
    assert "SOLVER.BASE_LR 0.3" in call and "MODEL.ROI_HEADS.NMS_THRESH_TEST 0.3" in call
    result = json.loads(run.result.read_text())
    assert result["metrics"]["bbox"]["AP"] == pytest.approx(15.4)
    assert result["cost"] == {}
    # On another machine the numbers are there and the weights are not.
    workshop.runs()["better2"].weights.unlink()
    run.result.unlink()
    assert workshop.main() == 1
    assert "--rerun better trains it again" in (run.folder / "failed.json").read_text()
    assert workshop.main("--rerun", "better") == 0


def test_a_failed_run_is_recorded_and_the_others_go_on(workshop, capsys):
    workshop.content["rows"] = {"broken": {"set": {"TEST.EVAL_PERIOD": 3}}, **workshop.content["rows"]}
    workshop.write(seeds=[0])
    assert workshop.main() == 1
    assert [state_of(r) for r in workshop.runs().values()] == ["failed", "done", "done"]
    capsys.readouterr()
    assert workshop.main("--status") == 1
    printed = capsys.readouterr().out
    assert "ValueError: the abacus broke" in printed and "exit status 1" in printed and "output.txt" in printed
    assert "trial: 2 of 3 done, 1 failed" in printed
    assert workshop.main() == 1
    assert len(workshop.steps("broken0")) == 4, "it is tried again, once each time"


def test_a_run_that_another_study_has_done_is_not_done_again(workshop, capsys):
    workshop.write(seeds=[0])
    assert workshop.main() == 0
    origin = json.loads(workshop.runs()["plain0"].result.read_text())
    workshop.file = workshop.file.with_name("second.yaml")
    workshop.content["rows"] = {
        "the_same": {"set": {"SOLVER.BASE_LR": 0.2}},
        "evaluated": {"set": {"SOLVER.BASE_LR": 0.3}},
        "other": {"set": {"SOLVER.BASE_LR": 0.25}},
        "halved": {"evaluate_of": "evaluated", "set": {"MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3}},
    }
    workshop.write(base_row="the_same")
    capsys.readouterr()
    assert workshop.main() == 0
    assert "roads/the_same-seed0 is the same run as" in capsys.readouterr().out
    copy = json.loads(workshop.runs()["the_same0"].result.read_text())
    assert copy == {**origin, "study": "second", "row": "the_same", "copied_from": "trial/roads/plain-seed0"}
    assert not workshop.steps("the_same0")
    assert len(workshop.steps("other0")) == 25, "another config is trained"
    assert len(workshop.steps("evaluated0")) == 25, "numbers alone bring no checkpoint to evaluate"
    assert workshop.main("--rerun", "the_same") == 0
    assert len(workshop.steps("the_same0")) == 25, "asked for again, it is trained"


def test_a_broken_result_of_another_study_stops_nothing(workshop, capsys):
    workshop.write(seeds=[0])
    broken = workshop.results / "other/roads/x-seed0.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('{"study": ')
    assert workshop.main() == 0
    assert capsys.readouterr().out.count("x-seed0.json is not a result") == 1


def test_numbers_that_cannot_be_written_are_a_failure(workshop):
    workshop.write(seeds=[0])
    (workshop.results / "trial").mkdir(parents=True)
    (workshop.results / "trial/roads").write_text("in the way")
    assert workshop.main() == 1
    assert "its numbers cannot be written" in (workshop.runs()["plain0"].folder / "failed.json").read_text()


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
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 60, "WARMUP_ITERS": 10}})
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


def test_kills_at_any_moment_lose_nothing_but_the_last_steps(workshop):
    """SIGKILL of the tool and of all that it started, again and again: at its start, and after so many more steps."""
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 60, "WARMUP_ITERS": 20}})

    def done():
        return len(workshop.steps("plain0")) + len(workshop.steps("better0"))

    kills = 0
    for more in (0, 7, 12, 1, 16, 9):
        goal = done() + more
        process = workshop.fork("--jobs", 2)
        process.join(0.2)
        wait_until(lambda goal=goal: done() >= goal)
        started = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_child(int(pid), process.pid)]
        assert process.is_alive(), "the kill came too late to mean anything"
        for pid in (process.pid, *started):
            os.kill(pid, signal.SIGKILL)
        process.join()
        kills += 1
    assert workshop.main("--jobs", 2) == 0
    for name in ("plain0", "better0"):
        steps = [step for _, step in workshop.steps(name)]
        assert set(steps) == set(range(60))
        assert len(steps) <= 60 + 10 * kills, "a kill costs at most what is done between two checkpoints"
    results = [json.loads(r.result.read_text())["metrics"]["bbox"]["AP"] for r in workshop.runs().values()]
    assert results == pytest.approx([20, 30])


def is_child(pid, parent):
    try:
        return int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1]) == parent
    except OSError:
        return False


def test_a_killed_tool_takes_its_programs_with_it_and_they_save_their_state(workshop):
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 2000, "WARMUP_ITERS": 5}})
    process = workshop.fork("--rows", "plain")
    wait_until(lambda: len(workshop.steps("plain0")) > 12)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    wait_until(lambda: state_of(workshop.runs()["plain0"]) == "cut")
    assert (workshop.runs()["plain0"].folder / "model_interrupted.pth").exists()


def test_a_program_that_outlives_its_tool_keeps_its_run(workshop):
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 300, "WARMUP_ITERS": 5}})
    workshop.content["rows"]["plain"]["set"]["TEST.DETECTIONS_PER_IMAGE"] = 7
    workshop.write()
    process = workshop.fork("--rows", "plain")
    wait_until(lambda: len(workshop.steps("plain0")) > 2)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert state_of(workshop.runs()["plain0"]) == "running"
    (orphan,) = {pid for pid, _ in workshop.steps("plain0")}
    assert workshop.main("--rows", "plain") == 0, "it waits for it, and does it then"
    assert not alive(orphan)
    steps = workshop.steps("plain0")
    assert [step for _, step in steps] == list(range(300)), "never two at once, nothing done twice"


def test_two_tools_share_a_study_and_no_run_is_done_twice(workshop):
    workshop.write(seeds=[0, 1, 2], set={"SOLVER": {"MAX_ITER": 40, "WARMUP_ITERS": 3}})
    first, second = workshop.fork(), workshop.fork("--jobs", 2)
    for process in (first, second):
        process.join(60)
        assert process.exitcode == 0
    for name in workshop.runs():
        steps = workshop.steps(name)
        assert [step for _, step in steps] == list(range(40))
        assert len({pid for pid, _ in steps}) == 1


def test_ctrl_c_saves_stops_and_the_same_command_goes_on(workshop):
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 80, "WARMUP_ITERS": 10}})
    process = workshop.fork("--jobs", 2)
    wait_until(lambda: workshop.steps("plain0") and workshop.steps("better0"))
    os.kill(process.pid, signal.SIGINT)
    process.join(30)
    assert process.exitcode == 130
    assert {state_of(r) for r in workshop.runs().values()} == {"cut"}
    assert not any(alive(pid) for name in workshop.runs() for pid, _ in workshop.steps(name))
    assert "stopped; the same command goes on" in workshop.file.with_suffix(".out").read_text()
    assert workshop.main("--jobs", 2) == 0
    for name in workshop.runs():
        assert [step for _, step in workshop.steps(name)] == list(range(80)), "not one step is lost or done twice"


def test_a_second_ctrl_c_kills_what_is_deaf_to_the_first(workshop):
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 100000}, "TEST.DETECTIONS_PER_IMAGE": 7})
    process = workshop.fork("--rows", "plain")
    wait_until(lambda: workshop.steps("plain0"))
    os.kill(process.pid, signal.SIGINT)
    process.join(0.7)
    assert process.exitcode is None
    os.kill(process.pid, signal.SIGTERM)
    process.join(30)
    assert process.exitcode == 130
    assert not alive(workshop.steps("plain0")[0][0])


def test_a_lock_is_free_when_its_owner_is_gone(tmp_path):
    path = tmp_path / "a" / "lock"
    assert not is_locked(path)
    assert not path.exists(), "looking makes nothing"
    lock = RunLock(path)
    assert lock.acquire() and is_locked(path) and not RunLock(path).acquire()
    lock.release()
    assert not is_locked(path)
    child = os.fork()
    if child == 0:
        RunLock(path).acquire()
        time.sleep(60)
        os._exit(0)
    wait_until(lambda: is_locked(path))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not is_locked(path)


def test_a_lock_that_is_looked_at_can_be_taken(tmp_path):
    held, wanted = RunLock(tmp_path / "lock"), RunLock(tmp_path / "lock")
    assert held.acquire()
    threading.Timer(0.2, held.release).start()
    assert wanted.acquire(), "is_locked of another process is over in a moment"
    wanted.release()


def test_studies_that_make_the_same_data_make_them_one_after_the_other(workshop, tmp_path, monkeypatch):
    monkeypatch.setenv("REG_D2_DATASETS", str(tmp_path / "data"))
    log, make = tmp_path / "log.txt", tmp_path / "make.py"
    make.write_text(
        "import sys, time\nlog = open(sys.argv[1], 'a', buffering=1)\nlog.write('begin ')\n"
        "time.sleep(0.5)\nlog.write('end ')"
    )
    workshop.write(seeds=[0], datasets={"roads": {"make": f"{make} {log}"}})
    first = workshop.fork("--rows", "plain")
    workshop.file = workshop.file.with_name("second.yaml")
    workshop.write()
    second = workshop.fork("--rows", "better")
    for process in (first, second):
        process.join(60)
        assert process.exitcode == 0
    assert log.read_text() == "begin end begin end "


def test_ctrl_c_while_a_study_is_read_is_one_line(workshop, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_module, "load_study", interrupted)
    assert workshop.main() == 130
    assert capsys.readouterr().err == "stopped\n"


def test_data_are_made_first_and_a_set_that_cannot_be_made_fails_alone(workshop, tmp_path, capsys):
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("import sys; open(sys.argv[1], 'w').write('made')")
    bad.write_text("raise SystemExit('no room on the disk')")
    workshop.write(
        seeds=[0],
        datasets={"roads": {"make": f"{good} '{tmp_path / 'some data.txt'}'"}, "signs": {"make": str(bad)}},
    )
    assert workshop.main() == 1
    assert (tmp_path / "some data.txt").read_text() == "made"
    assert "no room on the disk" in capsys.readouterr().out
    failed = [p for p in (workshop.output / "trial").rglob("failed.json")]
    assert len(failed) == 2 and all("signs" in str(p) for p in failed)
    assert len(list((workshop.results / "trial/roads").glob("*.json"))) == 2


def test_cores_and_gpus_are_divided(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert [share_of_cores(*x) for x in ((1, 1), (4, 1), (4, 2), (40, 1))] == [16, 4, 2, 1]
    assert least_used(["0"], [], 1) == ["0"]
    assert least_used(["0"], ["0", "0"], 1) == ["0"], "several runs share one GPU"
    assert least_used(["0", "1", "2", "3"], ["0", "2"], 2) == ["1", "3"]
    monkeypatch.setattr(local.torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert local.visible_gpus() == ["3", "5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(local.torch.cuda, "device_count", lambda: 2)
    assert local.visible_gpus() == ["0", "1"]


def test_each_program_gets_its_gpus_and_its_threads(workshop, monkeypatch, tmp_path):
    program = tmp_path / "show.py"
    program.write_text("import os; print('GPUS', os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'])")
    monkeypatch.setattr(local, "visible_gpus", lambda: ["4", "6"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    workshop.write(program=str(program))
    workshop.main("--jobs", 2, "--seeds", 0)
    shown = sorted(r.log.read_text() for r in workshop.runs().values() if r.log.exists())
    assert shown == ["GPUS 4 3\n", "GPUS 6 3\n"]


def test_wrong_choices_end_in_one_line(workshop, capsys):
    for flags, message in (
        (["--rows", "worse"], "the study has no row 'worse'; it has plain, better"),
        (["--rerun", "worse"], "--rerun worse: the study's rows are plain, better"),
        (
            ["--rerun", "plain", "--rows", "better"],
            "plain: not among the chosen; add it: --rows better plain",
        ),
        (["--slurm", "gpus"], "expected KEY=VALUE"),
    ):
        with pytest.raises(SystemExit) as stopped:
            workshop.main(*flags)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    assert issubclass(StudyError, ValueError)
