"""How a study stands: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .results import read_result
from .runs import STATES, Run, failure_of, progress_of, state_of

REFRESH_SECONDS = 1.0
# Of the screen: the sums, the head of the table, the rows that are folded, and one that stays free.
OTHER_LINES = 4
STYLES = {"done": "green", "running": "cyan", "queued": "cyan", "cut": "yellow", "failed": "red", "changed": "magenta"}
# What the files of a run may say while its job waits on a cluster.
MAY_BE_QUEUED = ("missing", "cut", "failed")
# What a cell says of runs that have neither a number nor a share of their steps.
WORDS = {"missing": "·", "queued": "queued", "failed": "failed", "changed": "changed"}


class StudyView:
    """Shows all runs of a study while some of them are done; a context manager."""

    def __init__(self, runs: Sequence[Run], console: Console | None = None):
        """
        Args:
            runs: all runs of the study, also those that are not to be done now.
            console: standard output by default; one that is no terminal gets a line for each change.
        """
        self._runs, self._console = runs, console or Console()
        self._states = {run: state_of(run) for run in runs}
        self._queued: set[Run] = set()
        self._started: dict[Run, float] = {}
        self._durations: list[float] = []
        self._next = 0.0
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> StudyView:
        if self._live is not None:
            self._live.start()
        self.tick()
        return self

    def __exit__(self, *_) -> None:
        if self._live is not None:
            self._next = 0.0
            self.tick()
            self._live.stop()

    def changed(self, run: Run, state: str) -> None:
        """A run came into a state."""
        now = time.time()
        if state == "running":
            self._started[run] = now
        elif run in self._started and state == "done":
            self._durations.append(now - self._started[run])
        self._queued.discard(run)
        if state == "queued":
            self._queued.add(run)
        self._states[run] = state
        if self._live is None:
            self._console.print(self._line(run, state), highlight=False, markup=False, soft_wrap=True)
        elif state == "failed":
            self._live.console.print(Text(failure_text(run), style="red"))

    def tick(self) -> None:
        """Draw again, once a second at most."""
        if self._live is None or time.time() < self._next:
            return
        self._next = time.time() + REFRESH_SECONDS
        self._look()
        table = study_table(self._runs, self._states, self._time_left(), self._console.height)
        self._live.update(table, refresh=True)

    def _look(self) -> None:
        """Other processes, and a cluster, change states without telling."""
        for run, known in self._states.items():
            if known not in ("done", "changed"):
                seen = state_of(run)
                if seen == "running" and known in ("queued", "missing", "cut"):
                    self._started.setdefault(run, time.time())  # the cluster began it
                self._states[run] = "queued" if run in self._queued and seen in MAY_BE_QUEUED else seen

    def _line(self, run: Run, state: str) -> str:
        counts = Counter(self._states.values())
        line = f"{time.strftime('%H:%M:%S')} [{counts['done']}/{len(self._runs)}] {run.name}: {state}"
        if state == "done":
            line += f" ({headline(run)})"
        return f"{line}\n{failure_text(run)}" if state == "failed" else line

    def _time_left(self) -> float | None:
        """Seconds, from the mean of what was finished here; None before that."""
        if not self._durations:
            return None
        active = [run for run, state in self._states.items() if state == "running"]
        left = sum(1 - progress_of(run) for run in active)
        left += sum(state in ("missing", "cut", "queued") for state in self._states.values())
        return left * sum(self._durations) / len(self._durations) / max(1, len(active))


def study_table(
    runs: Sequence[Run], states: Mapping[Run, str], seconds_left: float | None = None, height: int | None = None
) -> Group:
    """A line of sums; then one line a row of the study, one column a seed: box AP, share of the steps, or state.

    Args:
        height: lines of the screen; where the rows do not fit, those that run or have failed, and counts of the rest.
    """
    several = len({run.dataset for run in runs}) > 1
    seeds = sorted({run.seed for run in runs})
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in [*(["data"] if several else []), "row"]:
        table.add_column(column)
    for seed in seeds:
        table.add_column(f"seed {seed}", justify="right")
    by_place = {(run.dataset, run.row, run.seed): run for run in runs}
    by_row: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by_row.setdefault((run.dataset, run.row), []).append(run)
    shown = list(by_row)
    if height is not None and len(shown) > height - OTHER_LINES:
        shown = [row for row in shown if any(states[run] in ("running", "failed") for run in by_row[row])]
        shown = shown[: max(0, height - OTHER_LINES)]
    for dataset, row in shown:
        cells = [by_place.get((dataset, row, seed)) for seed in seeds]
        cells = ["" if run is None else _cell(run, states[run]) for run in cells]
        table.add_row(*([dataset] if several else []), row, *cells)
    lines = [Text(summary(runs, states, seconds_left), style="bold"), table]
    if folded := [run for row in by_row.keys() - set(shown) for run in by_row[row]]:
        lines.append(Text(f"{len(by_row) - len(shown)} rows more: {_counts(folded, states)}", style="dim"))
    return Group(*lines)


def summary(runs: Sequence[Run], states: Mapping[Run, str], seconds_left: float | None = None) -> str:
    """``components: 12 of 60 done, 2 running, 46 missing, about 3 h 5 min left``"""
    others = [run for run in runs if states[run] != "done"]
    text = [f"{len(runs) - len(others)} of {len(runs)} done"]
    if others:
        text.append(_counts(others, states))
    if seconds_left:
        minutes = int(seconds_left // 60) + 1
        text.append(
            f"about {minutes // 60} h {minutes % 60} min left" if minutes >= 60 else f"about {minutes} min left"
        )
    return f"{runs[0].study}: {', '.join(text)}"


def _counts(runs: Sequence[Run], states: Mapping[Run, str]) -> str:
    counts = Counter(states[run] for run in runs)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])


def headline(run: Run) -> str:
    """A finished run's AP: ``box AP 32.4, mask AP 28.0``."""
    metrics = (read_result(run.result) or {}).get("metrics", {})
    parts = [(name, metrics.get(task, {}).get("AP")) for name, task in (("box", "bbox"), ("mask", "segm"))]
    return ", ".join(f"{name} AP {'n/a' if ap is None else f'{ap:.1f}'}" for name, ap in parts)


def failure_text(run: Run) -> str:
    """Why a run failed: its status, the end of its log, and where the rest is."""
    failure = failure_of(run) or {"status": "unknown", "tail": ""}
    log = f" ({failure['log']})" if failure.get("log") else ""
    tail = "".join(f"\n    {line}" for line in failure["tail"].splitlines())
    return f"{run.name} failed: {failure['status']}{log}{tail}"


def _cell(run: Run, state: str) -> Text:
    if state == "done":
        box = (read_result(run.result) or {}).get("metrics", {}).get("bbox", {}).get("AP")
        text = "done" if box is None else f"{box:.1f}"
    else:
        text = WORDS.get(state) or f"{progress_of(run):.0%}{' cut' if state == 'cut' else ''}"
    return Text(text, style=STYLES.get(state, "dim"))
