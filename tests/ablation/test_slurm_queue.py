"""Jobs of a study in SLURM's queue: adopted, watched, refused, lost, and seen late."""

import time

import pytest

from reg_d2.ablation.locks import RunLock
from reg_d2.ablation.runs import failure_of, state_of
from reg_d2.ablation.slurm import SlurmRunner, runs_in_queue

from .conftest import store
from .submitted import LATE

ACCOUNTS = "echo 'JobID|State|NodeList'; echo '{}|{}|n1'"


@pytest.fixture
def halved(workshop, study):
    """The run of one more row, which evaluates the checkpoint of plain."""
    workshop.content["rows"]["halved"] = {"evaluate_of": "plain", "set": {"MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3}}
    study.read(workshop)
    return study.runs[2]


def test_jobs_in_the_queue_are_not_submitted_again_and_stay_there_after_ctrl_c(study, cluster):
    study.submitted(*study.runs)
    cluster(squeue="echo 70; echo 71", sbatch="exit 1")
    study.tick = lambda: setattr(study.stop, "count", len(study.seen) // 2)
    runner = study.runner()
    assert runner.run() is True
    assert study.seen == [("plain", "queued"), ("better", "queued")]
    assert runner.left == ["70", "71"]


def test_ctrl_c_while_jobs_are_submitted_submits_no_more(study, cluster, tmp_path):
    cluster(sbatch=f"echo x >> {tmp_path}/submitted; echo Submitted batch job 70", squeue="echo 70")
    study.tick = lambda: setattr(study.stop, "count", 1)
    assert study.runner().run() is False
    assert (tmp_path / "submitted").read_text() == "x\n"


@pytest.mark.parametrize(
    ("squeue", "adopted"),
    [
        ("echo 70", True),
        ("", False),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", False),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", True),
    ],
)
def test_what_the_queue_has_is_adopted_and_what_it_has_not_submitted_again(study, cluster, squeue, adopted):
    plain, _ = study.runs
    study.submitted(plain)
    cluster(squeue=squeue, sbatch="echo Submitted batch job 99")
    assert study.runner()._start(plain)[0].job_id == ("70" if adopted else "99")


def test_a_broken_record_is_none(study, cluster):
    plain, _ = study.runs
    plain.folder.mkdir(parents=True)
    (plain.folder / "job.json").write_text("{}")
    cluster(sbatch="echo Submitted batch job 99")
    assert study.runner()._start(plain)[0].job_id == "99"


def test_two_commands_do_not_submit_a_run_twice(study, cluster):
    """While one submits, the other waits, and then adopts its job."""
    plain, _ = study.runs
    other = RunLock(plain.folder / "submit.lock")
    assert other.acquire()
    cluster(sbatch="echo Submitted batch job 99")
    runner = study.runner()
    assert runner._start(plain) is None
    study.submitted(plain)
    other.release()
    cluster(squeue="echo 70")
    assert runner._start(plain)[0].job_id == "70"


@pytest.mark.parametrize("accounts", ["", ACCOUNTS.format(70, "RUNNING"), ACCOUNTS.format(70, "PREEMPTED")])
def test_a_job_that_is_gone_is_failed_whatever_accounting_says(study, cluster, accounts):
    """A dead machine may stay RUNNING there; no accounts are usual, too. Not at the first look: results come late."""
    plain, _ = study.runs
    cluster(squeue="echo 70", sacct=accounts or "exit 1")
    runner = study.watching(plain)
    runner._collect_what_ended()
    assert study.seen == [("plain", "queued")]
    cluster(squeue="")
    runner._collect_what_ended()
    assert study.seen == [("plain", "queued")]
    time.sleep(LATE)
    runner._collect_what_ended()
    assert study.seen == [("plain", "queued"), ("plain", "failed")]
    assert failure_of(plain)["status"].startswith("job 70 is gone without a result")


def test_a_job_that_the_cluster_ended_is_a_failed_run_with_its_last_words(study, cluster):
    plain, _ = study.runs
    cluster(squeue="echo 70")
    runner = study.watching(plain)
    cluster(squeue="", sacct=ACCOUNTS.format(70, "OUT_OF_MEMORY"))
    study.logs.mkdir(parents=True)
    (study.logs / "70_0_log.err").write_text("slurmstepd: error: Detected 1 oom_kill event\n")
    runner._active[plain].watcher.clear()
    assert runner.run() is False
    assert failure_of(plain)["status"] == "job 70 is gone without a result; it ended as OUT_OF_MEMORY"
    assert "oom_kill" in failure_of(plain)["tail"]


def test_a_suspended_job_goes_on(study, cluster):
    plain, _ = study.runs
    cluster(squeue="echo 70", sacct=ACCOUNTS.format(70, "SUSPENDED"))
    runner = study.watching(plain)
    for _ in range(4):
        runner._collect_what_ended()
    assert study.seen == [("plain", "queued")]


def test_a_job_whose_run_another_process_has_is_waited_for(study, cluster):
    plain, _ = study.runs
    cluster(squeue="echo 70")
    runner = study.watching(plain)
    study.ends(plain, ("success", "running"))
    lock = RunLock(plain.lock)
    assert lock.acquire()

    def finish():
        if ("plain", "running") in study.seen and lock.fd >= 0:
            store(plain, 30.0)
            lock.release()

    study.tick = finish
    assert runner.run() is True
    assert study.seen == [("plain", "queued"), ("plain", "running"), ("plain", "done")]


def test_a_run_whose_machine_was_taken_away_is_watched_while_it_is_in_the_queue(study, cluster):
    plain, _ = study.runs
    cluster(squeue="echo 70")
    runner = study.watching(plain)
    study.ends(plain, ("success", "cut"))
    runner._collect_what_ended()
    assert study.seen == [("plain", "queued")]
    cluster(squeue="")
    assert runner.run() is False
    assert study.seen[-1] == ("plain", "cut")


def test_a_job_that_was_queued_again_is_adopted(study, cluster):
    plain, better = study.runs
    study.submitted(plain, better)
    study.ends(plain, ("success", "cut"))
    study.ends(better, ("success", "failed"))
    cluster(squeue="echo 70; echo 71", sbatch="echo Submitted batch job 99")
    runner = study.runner()
    assert runner._start(plain)[0].job_id == "70"
    assert runner._start(better)[0].job_id == "99", "it has ended, and is about to leave the queue"


def test_a_queue_that_does_not_answer_says_nothing(study, cluster):
    """Accounting has seen the machine fail; that the job was queued again after it, only the queue knows."""
    plain, _ = study.runs
    cluster(squeue="echo 70", sacct=ACCOUNTS.format(70, "NODE_FAIL"))
    runner = study.watching(plain)
    cluster(squeue="echo 'Unable to contact slurm controller' >&2; exit 1")
    for _ in range(3):
        runner._collect_what_ended()
        time.sleep(LATE)
    assert study.seen == [("plain", "queued")]


def test_somebodys_own_view_of_the_queue_hides_no_jobs(study, cluster, monkeypatch):
    plain, _ = study.runs
    study.submitted(plain)
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    cluster(squeue='[ -n "$SQUEUE_STATES" ] || echo 70')
    assert runs_in_queue(study.runs) == {plain}


def test_an_error_in_a_job_is_told(study, cluster):
    plain, _ = study.runs
    cluster(squeue="echo 70")
    runner = study.watching(plain)
    study.ends(plain, ("error", "Traceback ...\nImportError: no module named abacus"))
    assert runner.run() is False
    failure = failure_of(plain)
    assert failure["status"] == "job 70 ended with an error" and "abacus" in failure["tail"]


def test_files_that_are_seen_late_are_waited_for(study, halved, cluster, monkeypatch):
    """A network file system shows them after a while: not at once a failed evaluation, and no tables without them."""
    monkeypatch.setattr(SlurmRunner, "late_seconds", 60.0)
    plain = study.runs[0]
    study.submitted(plain, halved)
    cluster(squeue="echo 70; echo 72")
    study.ends(halved, ("success", "done"))
    runner, ticks = study.runner([plain, halved]), []
    runner._start_what_can_be()
    study.ends(plain, ("success", "done"))

    def show():
        ticks.append(len(study.seen))
        if len(ticks) == 5:
            assert study.seen == [("plain", "queued"), ("plain", "done")], "its evaluation waits"
            store(plain, 30.0)
            plain.weights.write_text("{}")
            (halved.folder / "job.json").unlink()
            cluster(sbatch="echo Submitted batch job 72")
        if ticks.count(len(study.seen)) == 3 and study.seen[-1] == ("halved", "done"):
            store(halved, 15.0)

    study.tick = show
    assert runner.run() is True
    assert study.seen[2:] == [("halved", "queued"), ("halved", "done")]
    assert state_of(halved) == "done"


def test_an_evaluation_alone_waits_for_its_source_in_the_queue(study, halved, cluster):
    """--rows halved, while an earlier command's job trains what it evaluates: queued, running, just ended."""
    plain = study.runs[0]
    study.submitted(plain)
    cluster(squeue="echo 70", sbatch="echo Submitted batch job 72")
    lock, runner, ticks = RunLock(plain.lock), study.runner([halved]), []

    def go_on():
        ticks.append(1)
        assert not study.seen or len(ticks) > 6
        if len(ticks) == 2:
            cluster(squeue="exit 1")
        if len(ticks) == 3:
            assert lock.acquire()
            runner.late_seconds = 0.0
        if len(ticks) == 4:
            runner.late_seconds = 60.0
            cluster(squeue="echo 72")
            lock.release()
        if len(ticks) == 6:
            store(plain, 30.0)
            plain.weights.write_text("{}")
        if study.seen == [("halved", "queued")]:
            store(halved, 15.0)
            study.ends(halved, ("success", "done"))

    study.tick = go_on
    assert runner.run() is True
    assert study.seen == [("halved", "queued"), ("halved", "done")]


def test_an_evaluation_whose_source_failed_does_not_wait_for_late_files(study, halved, cluster, monkeypatch):
    monkeypatch.setattr(SlurmRunner, "late_seconds", 60.0)
    plain = study.runs[0]
    study.submitted(plain)
    cluster(squeue="echo 70")
    runner, begun = study.runner([plain, halved]), time.monotonic()
    runner._start_what_can_be()
    study.ends(plain, ("error", "ImportError: no module named abacus"))
    assert runner.run() is False
    assert study.seen == [("plain", "queued"), ("plain", "failed"), ("halved", "failed")]
    assert failure_of(halved)["status"] == "needs the checkpoint of plain: roads/plain-seed0 failed"
    assert time.monotonic() < begun + 30


@pytest.mark.parametrize("submitted", [False, True])
def test_an_evaluation_whose_source_nobody_trains_says_so(study, halved, cluster, submitted):
    plain = study.runs[0]
    study.submitted(*[plain] * submitted)
    cluster(squeue="echo 71")
    assert study.runner([halved]).run() is False
    failure = failure_of(halved)
    assert failure["status"] == "needs the checkpoint of plain: roads/plain-seed0 is not trained to its end"
    assert failure["tail"] == "--rows plain halved --datasets roads --seeds 0 trains it first"


def test_numbers_that_are_never_seen_are_a_failed_run(study, cluster):
    plain, _ = study.runs
    cluster(squeue="echo 70")
    runner = study.watching(plain)
    study.ends(plain, ("success", "done"))
    assert runner.run() is False
    assert study.seen == [("plain", "queued"), ("plain", "done"), ("plain", "failed")]
    assert str(plain.result) in failure_of(plain)["tail"]


def test_status_and_dry_run_know_the_queue(workshop, study, cluster, capsys):
    plain, better = study.runs
    study.submitted(plain, better)
    cluster(squeue="echo 71")
    assert workshop.main("--status") == 1
    assert "1 queued, 1 missing" in capsys.readouterr().out
    workshop.main("--dry-run")
    lines = capsys.readouterr().out.splitlines()
    assert "# roads/better-seed0 is in the queue of the cluster" in lines
    assert sum(str(plain.folder) in line for line in lines) == 1 and not any(str(better.folder) in x for x in lines)
