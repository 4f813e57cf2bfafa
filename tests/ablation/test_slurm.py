"""Studies through submitit: its stand-ins for a cluster, a requeue, and jobs that are still in the queue."""

import json
import os
import pickle
import signal

import cloudpickle
import pytest
import submitit

from reg_d2.ablation import slurm
from reg_d2.ablation.execution import Settings
from reg_d2.ablation.process import StopRequest
from reg_d2.ablation.runs import state_of
from reg_d2.ablation.slurm import Job, SlurmRunner, parse_parameters, workers_of

from .conftest import wait_until


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(SlurmRunner, "poll_seconds", 0.05)


def test_a_job_survives_its_way_to_another_machine(workshop):
    """submitit pickles it; what arrives does the whole run."""
    workshop.write(seeds=[0])
    run = workshop.runs()["plain0"]
    sent = pickle.loads(cloudpickle.dumps(Job(run, Settings(workers=2, jobs=7))))
    assert sent() == "done"
    assert "--num-gpus 2" in (run.folder / "calls.txt").read_text()
    result = json.loads(run.result.read_text())
    assert result["data"] == workshop.data
    assert result["hardware"]["side_by_side"] == 1, "jobs of a cluster have its machines to themselves"
    assert state_of(run) == "done"


def test_all_jobs_are_submitted_at_once_and_evaluations_after_their_rows(workshop, monkeypatch):
    workshop.content["rows"]["halved"] = {"evaluate_of": "better", "set": {"MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3}}
    workshop.content["rows"]["broken"] = {"set": {"TEST.EVAL_PERIOD": 3}}
    workshop.write(seeds=[0])
    assert workshop.main("--slurm", "partition=gpu", "gpus=4", "minutes=9", "--cluster", "debug") == 1
    states = {name: state_of(run) for name, run in workshop.runs().items()}
    assert states == {"plain0": "done", "better0": "done", "halved0": "done", "broken0": "failed"}


def test_a_job_that_must_leave_saves_its_state_and_goes_on_when_requeued(workshop):
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 60, "WARMUP_ITERS": 10}})
    run = workshop.runs()["plain0"]
    job = Job(run, Settings())
    child = os.fork()
    if child == 0:
        # As submitit does it: a signal in the middle of the call.
        signal.signal(signal.SIGUSR1, lambda *_: os._exit(7 if isinstance(requeued(job), Job) else 8))
        job()
        os._exit(9)
    wait_until(lambda: len(workshop.steps("plain0")) > 5)
    os.kill(child, signal.SIGUSR1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert state_of(run) == "cut"
    assert Job(run, Settings())() == "done"
    assert [step for _, step in workshop.steps("plain0")] == list(range(60))
    assert Job(run, Settings())() == "done", "a job submitted twice does nothing"
    assert len(workshop.steps("plain0")) == 60


def requeued(job):
    submission = job.checkpoint()
    assert isinstance(submission, submitit.helpers.DelayedSubmission)
    return submission.function


class Queued:
    """A job of SLURM that waits in the queue, as submitit shows it to a program that did not submit it."""

    asked = []

    def __init__(self, folder, job_id):
        self.job_id, self.state = job_id, "PENDING"
        Queued.asked.append(job_id)

    def done(self, force_check=False):
        return False


def test_jobs_in_the_queue_are_not_submitted_again_and_stay_there_after_ctrl_c(workshop, monkeypatch):
    workshop.write(seeds=[0])
    runs = list(workshop.runs().values())
    for i, run in enumerate(runs):
        run.folder.mkdir(parents=True)
        (run.folder / "job.json").write_text(json.dumps({"cluster": "slurm", "job_id": str(70 + i), "logs": "x"}))
    monkeypatch.setattr(slurm.submitit, "SlurmJob", Queued)
    stop, seen = StopRequest(), []
    runner = SlurmRunner(
        runs,
        Settings(jobs=5),
        stop,
        lambda run, state: seen.append((run.row, state)),
        lambda: setattr(stop, "count", len(seen) // 2),
        parameters={},
        logs=workshop.output / "logs",
        cluster="debug",
    )
    assert runner.run() is True
    assert seen == [("plain", "queued"), ("better", "queued")]
    assert Queued.asked == runner.left == ["70", "71"]


def test_a_job_that_the_cluster_ended_is_a_failed_run(workshop, tmp_path):
    workshop.write(seeds=[0])
    run = workshop.runs()["plain0"]

    class Ended(Queued):
        state = "TIMEOUT"

        def done(self, force_check=False):
            return True

        def result(self):
            raise submitit.core.utils.UncompletedJobError("Job 5 was cut off at its time limit")

    runner = SlurmRunner([run], Settings(), StopRequest(), parameters={}, logs=tmp_path / "logs", cluster="debug")
    ended = Ended("x", "5")
    ended.state = "TIMEOUT"
    assert runner._poll(run, ended) == "failed"
    failure = json.loads((run.folder / "failed.json").read_text())
    assert failure["status"] == "job 5 ended as TIMEOUT" and "time limit" in failure["tail"]


def test_parameters_are_submitits():
    given = ["partition=gpu", "gpus=4", "cpus=32", "minutes=240", "memory=64", "qos=low", "account=roads"]
    assert parse_parameters(given) == {
        **{"slurm_partition": "gpu", "gpus_per_node": 4, "cpus_per_task": 32, "timeout_min": 240, "mem_gb": 64},
        **{"slurm_qos": "low", "slurm_account": "roads"},
    }
    own = parse_parameters(["gpus_per_node=4", "timeout_min=240", "slurm_partition=gpu"])
    assert own == {"gpus_per_node": 4, "timeout_min": 240, "slurm_partition": "gpu"}
    assert workers_of(own, 1) == 4 and workers_of({"timeout_min": 9}, 2) == workers_of(None, 2) == 2
    assert parse_parameters(["time=1-0"]) == {"slurm_time": "1-0"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gpus", "--slurm 'gpus': expected KEY=VALUE; keys: gpus, cpus, minutes"),
        (
            "gpus=a100:4",
            "'gpus=a100:4': expected a whole number, as in gpus=4; a kind of GPU .* constraint=NAME",
        ),
        ("memory=64GB", "expected a whole number, as in memory=4$"),
        ("gres=gpu:4", "--slurm 'gres=gpu:4': ask for GPUs by gpus=N"),
        ("qos=low", "no minutes=N"),
    ],
)
def test_a_wrong_parameter_is_told_what_is_right(given, message):
    with pytest.raises(ValueError, match=message):
        parse_parameters([given])


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """Commands of SLURM that say what a test wants: ``cluster(sbatch="echo ...")``."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def programs(**scripts):
        for name, script in ({"srun": "", "sacct": "echo 'JobID|State|NodeList'"} | scripts).items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)

    return programs


def test_what_sbatch_refuses_ends_in_one_line_or_is_a_failed_run(workshop, cluster, tmp_path, capsys):
    workshop.write(seeds=[0])
    cluster(sbatch="echo 'sbatch: error: invalid partition specified: gqu' >&2; exit 1")
    with pytest.raises(SystemExit):
        workshop.main("--slurm", "partition=gqu", "minutes=9")
    error = capsys.readouterr().err
    assert "error: --slurm: sbatch refuses roads/plain-seed0: sbatch: error: invalid partition" in error
    plain, better = workshop.runs().values()
    runner = SlurmRunner([better], Settings(), StopRequest(), parameters={}, logs=tmp_path / "logs")
    runner._active[plain] = None
    runner._has_room, runner._collect_what_ended = lambda: True, runner._active.clear
    assert runner.run() is False
    assert state_of(better) == "failed"


def test_a_job_that_the_cluster_has_forgotten_is_submitted_again(workshop, cluster, tmp_path, monkeypatch):
    workshop.write(seeds=[0])
    plain, better = workshop.runs().values()
    for run, text in (plain, json.dumps({"cluster": "slurm", "job_id": "70", "logs": str(tmp_path)})), (better, "{}"):
        run.folder.mkdir(parents=True)
        (run.folder / "job.json").write_text(text)
    cluster(squeue="echo 70", sbatch="echo Submitted batch job 71")
    runner = SlurmRunner([], Settings(), StopRequest(), parameters={}, logs=tmp_path / "logs")
    assert runner._start(plain)[0].job_id == "70", "in the queue, though not yet in the accounts"
    assert runner._start(better)[0].job_id == "71", "a broken record is none"
    for squeue in ("", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"):
        cluster(squeue=squeue)
        assert runner._submitted_before(plain) is None
    cluster(squeue="echo 'Unable to contact slurm controller' >&2; exit 1")
    assert runner._submitted_before(plain) is not None
    job, _ = runner._start(plain)
    cluster(squeue="")
    assert runner._poll(plain, job) is None, "it is new: both may not know it yet"
    monkeypatch.setattr(slurm.time, "time", lambda: 10e10)
    assert runner._poll(plain, job) == "failed"
    assert "does not know job 70" in (plain.folder / "failed.json").read_text()


def test_a_parameter_that_slurm_lacks_is_refused(workshop):
    with pytest.raises(ValueError, match="partitoin"):
        SlurmRunner([], Settings(), StopRequest(), parameters={"slurm_partitoin": "x"}, logs="logs", cluster="debug")


def test_the_batch_script_asks_for_the_gpus(workshop, monkeypatch, tmp_path):
    """What submitit hands to sbatch."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("srun", "sbatch"):
        (tmp_path / name).write_text('#!/bin/sh\ncp "$1" "$0.given"\necho Submitted batch job 17\n')
        (tmp_path / name).chmod(0o755)
    parameters = parse_parameters(["partition=gpu", "cpus=32", "minutes=240"])
    runner = SlurmRunner(
        [], Settings(workers=4), StopRequest(), parameters=parameters, logs=tmp_path / "logs", cluster="slurm"
    )
    workshop.write(seeds=[0])
    job, state = runner._start(workshop.runs()["plain0"])
    assert (job.job_id, state) == ("17", "queued")
    script = (tmp_path / "sbatch.given").read_text()
    for line in (
        "--gpus-per-node=4",
        "--partition=gpu",
        "--cpus-per-task=32",
        "--time=240",
        "--job-name=trial-plain-0",
    ):
        assert line in script, script
