"""Jobs of a study that sbatch refuses: a full queue, wrong parameters, Ctrl-C."""

import pytest

from reg_d2.ablation import slurm
from reg_d2.ablation.runs import failure_of, state_of

from .conftest import store


def test_what_is_in_a_full_queue_is_watched_before_anything_is_submitted(study, cluster, monkeypatch):
    """The command again, with the later of two runs in the queue, where there is no place for the first."""
    monkeypatch.setattr(slurm, "RETRY_SECONDS", 60.0)
    plain, better = study.runs
    study.submitted(better)
    cluster(squeue="echo 71", sbatch="echo QOSMaxSubmitJobPerUserLimit >&2; exit 1")
    ticks = []

    def end():
        ticks.append(1)
        if len(ticks) == 5:
            assert study.seen == [("better", "queued")]
            study.stop.count = 1

    study.tick = end
    assert study.runner().run() is False
    assert state_of(plain) == "missing"


def test_ctrl_c_that_reaches_sbatch_is_no_refusal(study, cluster):
    study.stop.count = 1
    cluster(sbatch="exit 130")
    assert study.runner()._start(study.runs[0]) is None


def test_what_sbatch_refuses_at_first_ends_in_one_line(workshop, cluster, capsys):
    workshop.write(seeds=[0])
    cluster(sbatch="echo 'sbatch: error: invalid partition specified: gqu' >&2; exit 1")
    with pytest.raises(SystemExit):
        workshop.main("--slurm", "partition=gqu", "minutes=9")
    error = capsys.readouterr().err
    assert "error: --slurm: sbatch refuses roads/plain-seed0: sbatch: error: invalid partition" in error


def test_a_full_queue_is_tried_again(study, cluster, tmp_path, monkeypatch):
    """One job at a time is allowed; the second is submitted a while after the first has ended."""
    monkeypatch.setattr(slurm, "MAX_REFUSALS", 3)
    plain, better = study.runs
    sbatch = f"""
echo x >> {tmp_path}/tries
if [ -e {tmp_path}/full ]; then echo 'QOSMaxSubmitJobPerUserLimit' >&2; exit 1; fi
touch {tmp_path}/full; echo Submitted batch job $(cat {tmp_path}/next)"""
    cluster(sbatch=sbatch, squeue="echo 70; echo 71")
    (tmp_path / "next").write_text("70")
    ticks = []

    def end():
        ticks.append(1)
        if len(ticks) == 9:
            assert study.seen == [("plain", "queued")], "refused many times, and not failed"
            assert (tmp_path / "tries").read_text().count("x") > 3
            store(plain, 30.0)
            study.ends(plain, ("success", "done"))
        if len(ticks) == 11:
            assert study.seen[1:] == [("plain", "done")], "refused without a job of ours, and not failed at once"
            (tmp_path / "full").unlink()
            (tmp_path / "next").write_text("71")
        if ("better", "queued") in study.seen:
            store(better, 33.0)
            study.ends(better, ("success", "done"))

    study.tick = end
    assert study.runner().run() is True


def test_what_sbatch_goes_on_refusing_is_a_failed_run(study, cluster, monkeypatch):
    monkeypatch.setattr(slurm, "MAX_REFUSALS", 3)
    plain, better = study.runs
    study.submitted(plain)
    cluster(squeue="echo 70", sbatch="echo 'sbatch: error: no such account' >&2; exit 1")
    runner = study.runner(jobs=1)
    runner._start_what_can_be()
    store(plain, 30.0)
    study.ends(plain, ("success", "done"))
    assert runner.run() is False
    assert study.seen == [("plain", "queued"), ("plain", "done"), ("better", "failed")]
    assert "no such account" in failure_of(better)["tail"]
