"""The view of a study while it runs."""

import io

from rich.console import Console

from reg_d2.ablation import progress
from reg_d2.ablation.progress import StudyView, study_table


def lines_of(renderable):
    console = Console(file=io.StringIO(), width=100)
    console.print(renderable)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_rows_that_do_not_fit_are_counted(workshop):
    workshop.content["rows"] |= {f"row{i}": {"set": {"SOLVER.BASE_LR": 1.0 + i}} for i in range(30)}
    workshop.write(seeds=[0])
    runs = list(workshop.runs().values())
    states = {run: "missing" for run in runs} | {runs[5]: "running", runs[9]: "failed", runs[0]: "done"}
    whole = lines_of(study_table(runs, states))
    assert whole[0] == "trial: 1 of 32 done, 1 running, 29 missing, 1 failed" and len(whole) == 2 + 32
    small = lines_of(study_table(runs, states, height=20))
    assert small[0] == whole[0] and [line.split()[0] for line in small[2:4]] == ["row3", "row7"]
    assert small[4:] == ["30 rows more: 1 done, 29 missing"]
    assert len(lines_of(study_table(runs, dict.fromkeys(runs, "running"), height=20))) == 20 - 1
    assert len(lines_of(study_table(runs[:16], states, height=20))) == 2 + 16


def test_the_time_left_is_known_for_what_a_cluster_runs(workshop, monkeypatch):
    workshop.write(seeds=[0])
    first, second = workshop.runs().values()
    clock, states = [1000.0], {first: "missing", second: "missing"}
    monkeypatch.setattr(progress.time, "time", lambda: clock[0])
    monkeypatch.setattr(progress, "state_of", states.get)
    view = StudyView([first, second], Console(file=io.StringIO(), force_terminal=True, width=100))
    view.changed(first, "queued")
    view.changed(second, "queued")
    states[first] = "running"
    view._look()
    clock[0] += 600
    view.changed(first, "done")
    assert view._time_left() == 600
