"""Kills, Ctrl-C and locks: a study that is stopped goes on, and no run is done twice."""

import errno
import fcntl
import json
import os
import signal
import threading
import time

import pytest

from reg_d2.ablation import command as command_module
from reg_d2.ablation.locks import RunLock, is_locked
from reg_d2.ablation.runs import state_of

from .conftest import wait_until


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"


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


def test_a_tool_that_lacked_a_checkpoint_leaves_the_evaluation_to_the_one_that_trains_it(workshop):
    workshop.content["rows"]["halved"] = {"evaluate_of": "plain", "set": {"MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3}}
    workshop.write()
    first = workshop.fork()
    wait_until(lambda: workshop.steps("plain0"))
    failure = workshop.runs()["halved1"].folder / "failed.json"
    second = workshop.fork("--rows", "halved", "--seeds", 1)
    wait_until(failure.is_file)
    for process in (first, second):
        process.join()
    assert (first.exitcode, second.exitcode) == (0, 1)
    assert not failure.exists()


def test_ctrl_c_saves_stops_and_the_same_command_goes_on(workshop):
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 200, "WARMUP_ITERS": 10}})
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
        assert [step for _, step in workshop.steps(name)] == list(range(200)), "not one step is lost or done twice"


def test_a_program_that_stops_without_a_word_is_cut_not_done(workshop):
    workshop.content["rows"]["plain"]["set"]["TEST.DETECTIONS_PER_IMAGE"] = 106
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 200, "WARMUP_ITERS": 10}})
    process = workshop.fork("--rows", "plain")
    wait_until(lambda: workshop.steps("plain0"))
    os.kill(process.pid, signal.SIGINT)
    process.join(30)
    assert process.exitcode == 130
    run = workshop.runs()["plain0"]
    assert state_of(run) == "cut" and not (run.folder / "failed.json").exists()
    assert workshop.main("--rows", "plain") == 0
    assert [step for _, step in workshop.steps("plain0")] == list(range(200))


def test_a_row_that_is_done_again_goes_on_without_rerun(workshop):
    workshop.write(seeds=[0], set={"SOLVER": {"MAX_ITER": 200, "WARMUP_ITERS": 10}})
    assert workshop.main("--rows", "plain") == 0
    process = workshop.fork("--rows", "plain", "--rerun", "plain")
    wait_until(lambda: len(workshop.steps("plain0")) > 210)
    os.kill(process.pid, signal.SIGINT)
    process.join(30)
    assert "stopped; the same command without --rerun goes on" in workshop.file.with_suffix(".out").read_text()
    assert workshop.main("--rows", "plain") == 0
    assert [step for _, step in workshop.steps("plain0")] == [*range(200), *range(200)]


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


def test_a_lock_on_nfs_can_be_looked_at(tmp_path, monkeypatch):
    """There an exclusive lock needs a file that is open for writing (flock(2), NFS details)."""

    def nfs(fd, operation):
        if operation & fcntl.LOCK_EX and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(fd, operation)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", nfs)
    lock = RunLock(tmp_path / "lock")
    assert lock.acquire() and is_locked(tmp_path / "lock")
    lock.release()
    assert not is_locked(tmp_path / "lock")


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def lustre(fd, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", lustre)
    with pytest.raises(OSError, match=r"lock cannot be locked: .*has no flock: put --output on one that has"):
        RunLock(tmp_path / "lock").acquire()
    with pytest.raises(OSError, match="has no flock"):
        is_locked(tmp_path / "lock")


def test_ctrl_c_while_a_study_is_read_is_one_line(workshop, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_module, "load_study", interrupted)
    assert workshop.main() == 130
    assert capsys.readouterr().err == "stopped\n"
