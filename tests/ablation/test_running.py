"""Running a study: what is missing and what failed, evaluations, the data, and shares of the machine."""

import json
import os
import re

import pytest

from reg_d2.ablation import local
from reg_d2.ablation.local import least_used, share_of_cores
from reg_d2.ablation.locks import RunLock
from reg_d2.ablation.results import read_result
from reg_d2.ablation.runs import state_of
from reg_d2.ablation.study import StudyError

from .conftest import FAKE


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
    workshop.write(seeds=[2, 3])
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
    assert "--rerun better --datasets roads --seeds 2 trains it again" in (run.folder / "failed.json").read_text()
    assert workshop.main("--rerun", "better", "--datasets", "roads", "--seeds", 2) == 0
    assert len(workshop.steps("better3")) == 25, "what is done stays"


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


def test_results_that_are_none_are_a_failure_of_their_run_alone(workshop):
    bad = {f"bad_{kind}": {"set": {"TEST.DETECTIONS_PER_IMAGE": kind}} for kind in range(108, 118)}
    workshop.content["rows"] = bad | workshop.content["rows"]
    workshop.write(seeds=[0])
    assert workshop.main() == 1
    runs = workshop.runs()
    assert [state_of(r) for r in runs.values()] == ["failed"] * len(bad) + ["done"] * 2
    why = {row: json.loads((runs[f"{row}0"].folder / "failed.json").read_text())["status"] for row in bad}
    assert why["bad_108"].startswith("its numbers cannot be written") and "bbox" in why["bad_108"]
    assert "not as tools/train_net.py writes it" in why["bad_109"] and "not as" in why["bad_111"]
    assert why["bad_110"] == "its results cannot be read: results.json has none of bbox, segm, segm_boxes"
    assert why["bad_112"] == "its results cannot be read: bbox AP is 'high'; expected a number or null"
    assert "bbox per_class 'a' AP is [1]; expected a number" in why["bad_113"]
    assert all("cost.json is not as tools/train_net.py writes it" in why[f"bad_{kind}"] for kind in (114, 115))
    assert "hardware workers is 'two'; expected a whole number" in why["bad_116"]
    assert "cost step_time is '1'; expected a number" in why["bad_117"]


def test_a_stored_result_of_another_make_is_named(workshop):
    workshop.write(seeds=[0])
    assert workshop.main() == 0
    file = workshop.runs()["plain0"].result
    good = json.loads(file.read_text())
    for change, message in (
        ({"metrics": {"bbox": {"AP": "high"}}}, "bbox AP is 'high'"),
        ({"metrics": [1]}, "metrics is [1]; expected a mapping"),
        ({"config": "x"}, "config is 'x'; expected a mapping"),
        ({"hardware": {"workers": 0}}, "hardware workers is 0"),
    ):
        file.write_text(json.dumps({**good, **change}))
        with pytest.raises(ValueError, match=f"plain-seed0.json is not a result .{re.escape(message)}.*: delete it"):
            read_result(file)


def test_numbers_that_an_earlier_try_left_are_not_taken(workshop):
    workshop.content["rows"]["plain"]["set"]["TEST.DETECTIONS_PER_IMAGE"] = 107
    workshop.write(seeds=[0])
    run = workshop.runs()["plain0"]
    run.folder.mkdir(parents=True)
    (run.folder / "results.json").write_text('{"bbox": {"AP": 50.0}}')
    assert workshop.main("--rows", "plain") == 1
    assert state_of(run) == "failed" and not run.result.exists()


def test_a_program_of_ones_own_is_known_within_its_study_only(workshop, tmp_path):
    """Outside the repository another study's program of the same name may be another one."""
    for name, quality in (("first", 0.2), ("second", 0.4)):
        (tmp_path / name).mkdir()
        workshop.file = tmp_path / name / f"{name}.yaml"
        text = FAKE.read_text().replace('float(options.get("SOLVER.BASE_LR", 0))', str(quality))
        (tmp_path / name / "mine.py").write_text(text)
        workshop.write(seeds=[0], program="mine.py")
        assert workshop.main("--rows", "plain") == 0
        result = json.loads((workshop.results / name / "roads/plain-seed0.json").read_text())
        assert result["metrics"]["bbox"]["AP"] == pytest.approx(100 * quality)
        assert "copied_from" not in result


def test_a_run_that_another_study_has_done_is_not_done_again(workshop, capsys):
    workshop.content["rows"]["halved"] = {"evaluate_of": "better", "set": {"MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.4}}
    workshop.write(seeds=[0])
    assert workshop.main() == 0
    origin = json.loads(workshop.runs()["plain0"].result.read_text())
    workshop.file = workshop.file.with_name("second.yaml")
    workshop.content["rows"] = {
        "the_same": {"set": {"SOLVER.BASE_LR": 0.2}},
        "evaluated": {"set": {"SOLVER.BASE_LR": 0.3}},
        "other": {"set": {"SOLVER.BASE_LR": 0.25}},
        "halved": {"evaluate_of": "evaluated", "set": {"MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3}},
        "trained": {"set": {"SOLVER.BASE_LR": 0.3, "TEST.EVAL_PERIOD": 0}},
        "as_there": {"evaluate_of": "trained", "set": {"MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.4}},
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
    assert not workshop.steps("trained0"), "what evaluates it has its numbers: no checkpoint is needed"
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
    said = capsys.readouterr().out
    log = workshop.output / "trial/signs/data.txt"
    assert "no room on the disk" in said and f"could not be made: exit status 1 ({log})" in said and log.is_file()
    failed = [p for p in (workshop.output / "trial").rglob("failed.json")]
    assert len(failed) == 2 and all("signs" in str(p) for p in failed)
    assert len(list((workshop.results / "trial/roads").glob("*.json"))) == 2


def test_a_catalogue_that_is_not_here_is_named(workshop, capsys):
    workshop.write(seeds=[0], set={"DATASETS.CATALOG": "my_catalogue.yaml", "SOLVER.MAX_ITER": 3})
    assert workshop.main("--dry-run") == 0
    assert "# roads: there is no catalogue my_catalogue.yaml (DATASETS.CATALOG) below" in capsys.readouterr().out


def test_a_folder_that_takes_no_numbers_is_told_before_anything_is_trained(workshop, capsys):
    workshop.results.write_text("a file")
    with pytest.raises(SystemExit):
        workshop.main()
    assert str(workshop.results) in capsys.readouterr().err
    assert not workshop.output.exists()


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
