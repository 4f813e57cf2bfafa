"""Studies through submitit: what a job does, what sbatch gets, and what is refused before."""

import json
import os
import pickle
import signal
import threading

import cloudpickle
import pytest
import submitit

from reg_d2.ablation import slurm
from reg_d2.ablation.execution import Execution, Settings
from reg_d2.ablation.locks import RunLock
from reg_d2.ablation.process import StopRequest
from reg_d2.ablation.runs import state_of
from reg_d2.ablation.slurm import Job, SlurmRunner
from reg_d2.ablation.slurm_parameters import make_executor, parse_parameters, workers_of

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
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 200, "WARMUP_ITERS": 10}})
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
    assert [step for _, step in workshop.steps("plain0")] == list(range(200))
    assert Job(run, Settings())() == "done", "a job submitted twice does nothing"
    assert len(workshop.steps("plain0")) == 200


def requeued(job):
    submission = job.checkpoint()
    assert isinstance(submission, submitit.helpers.DelayedSubmission)
    return submission.function


def test_parameters_are_submitits():
    given = ["partition=gpu", "gpus=4", "cpus=32", "minutes=240", "memory=64", "qos=low", "account=roads"]
    assert parse_parameters(given) == {
        **{"slurm_partition": "gpu", "gpus_per_node": 4, "cpus_per_task": 32, "timeout_min": 240, "mem_gb": 64},
        **{"slurm_qos": "low", "slurm_account": "roads"},
    }
    own = parse_parameters(["gpus_per_node=4", "timeout_min=240", "slurm_partition=gpu"])
    assert own == {"gpus_per_node": 4, "timeout_min": 240, "slurm_partition": "gpu"}
    assert workers_of(own, 1) == 4 and workers_of({"timeout_min": 9}, 2) == workers_of(None, 2) == 2
    assert parse_parameters(["minutes=9", "exclusive=true", "setup=module load cuda", "setup=a", "account=007"]) == {
        **{"timeout_min": 9, "slurm_exclusive": True, "slurm_setup": ["module load cuda", "a"], "slurm_account": "007"}
    }


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
        ("time=4:00:00", "'time=4:00:00': give the time limit of a run as minutes=N"),
        ("nodes=2", "a run is one task on one machine"),
        ("mem=64GB", "ask for memory by memory=N, in GB"),
        ("name=mine", "jobs are called by study, row and seed"),
        ("minutes=0", "expected a whole number"),
        ("minutes=\u00b2", "expected a whole number"),
        ("additional_parameters=x", "SBATCH_RESERVATION"),
    ],
)
def test_a_wrong_parameter_is_told_what_is_right(given, message):
    with pytest.raises(ValueError, match=message):
        parse_parameters([given])


def test_what_slurm_lacks_is_refused_before_anything_is_deleted(workshop, cluster, capsys):
    workshop.write(seeds=[0])
    assert workshop.main() == 0
    with pytest.raises(SystemExit):
        workshop.main("--rerun", "better", "--slurm", "partitoin=gpu", "minutes=9")
    assert "partitoin" in capsys.readouterr().err
    assert {state_of(run) for run in workshop.runs().values()} == {"done"}
    assert (workshop.runs()["better0"].folder / "model_final.pth").exists()


def test_the_batch_script_asks_for_the_gpus(workshop, cluster, tmp_path):
    """What submitit hands to sbatch."""
    cluster(sbatch=f'cp "$1" {tmp_path}/given\necho Submitted batch job 17')
    parameters = parse_parameters(["partition=gpu", "cpus=32", "minutes=240", "exclusive=true", "setup=module load x"])
    executor = make_executor(parameters, workers=4, logs=tmp_path / "logs")
    runner = SlurmRunner([], Settings(workers=4), StopRequest(), executor=executor)
    workshop.write(seeds=[0])
    job, state = runner._start(workshop.runs()["plain0"])
    assert (job.job_id, state) == ("17", "queued")
    script = (tmp_path / "given").read_text()
    for line in (
        "--gpus-per-node=4",
        "--partition=gpu",
        "--cpus-per-task=32",
        "--time=240",
        "--job-name=trial-plain-0",
        "--exclusive",
        "module load x",
    ):
        assert f"{line}\n" in script, script


def test_a_run_that_another_process_has_is_waited_for(workshop, monkeypatch):
    """The lock of a machine that died is there for a while; one of a process that works, longer than a job waits."""
    workshop.write(seeds=[0])
    run = workshop.runs()["plain0"]
    lock = RunLock(run.lock)
    assert lock.acquire()
    monkeypatch.setattr(RunLock.acquire, "__defaults__", (0.0,))
    monkeypatch.setattr(slurm, "LOCK_SECONDS", 0.0)
    assert Job(run, Settings())() == "running"
    monkeypatch.setattr(slurm, "LOCK_SECONDS", 60.0)
    threading.Timer(0.5, lock.release).start()
    assert Job(run, Settings())() == "done"


def test_a_signal_to_every_process_of_a_job_is_the_jobs_own_affair(workshop):
    """Some clusters warn all processes: the program neither dies of it nor counts as failed where it is stopped."""
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 6000, "WARMUP_ITERS": 5}})
    run = workshop.runs()["plain0"]
    execution = Execution.start(run, Settings())
    wait_until(lambda: len(workshop.steps("plain0")) > 2)
    ((program, _), *_) = workshop.steps("plain0")
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        os.kill(program, number)
    known = len(workshop.steps("plain0"))
    wait_until(lambda: len(workshop.steps("plain0")) > known + 2)
    os.kill(program, signal.SIGTERM)
    execution.await_end()
    assert execution.poll() == state_of(run) == "cut"


def test_a_program_that_is_stopped_before_it_has_anything_to_save_is_cut(workshop, tmp_path):
    program = tmp_path / "imports.py"
    program.write_text("import time; time.sleep(60)")
    workshop.write(seeds=[0], program=str(program))
    execution = Execution.start(workshop.runs()["plain0"], Settings())
    execution._child._signal(signal.SIGTERM)
    execution.await_end()
    assert execution.poll() == "cut"
