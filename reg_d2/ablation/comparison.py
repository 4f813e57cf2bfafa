"""From stored results to estimates: each row's means over seeds, and its paired differences from another row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .options import reference_workers
from .results import changes, describe, read_result
from .runs import Run
from .statistics import Estimate, estimate, holm, paired
from .study import Study


@dataclass(frozen=True)
class Metric:
    """A number of a result: its place there, its title, its decimals, and whether rows are compared by it."""

    path: tuple[str, ...]
    title: str
    decimals: int = 1
    compared: bool = True

    @property
    def name(self) -> str:
        """In CSV: ``bbox/AP``."""
        return "/".join(part for part in self.path[1:] if part)

    def of(self, result: Mapping) -> float | None:
        """None where the result lacks it."""
        for key in self.path:
            result = result.get(key) if isinstance(result, Mapping) else None
        return result


def _task(task: str) -> tuple[Metric, ...]:
    keys = {"AP": "AP", "AP50": "AP50", "f1": "F1", "AP_head": "head", "AP_middle": "middle", "AP_tail": "tail"}
    keys["AP_rarest"] = "two rarest"
    empty = Metric(("metrics", task, "per_empty_image"), "per empty image", 2)
    return (*(Metric(("metrics", task, key), title) for key, title in keys.items()), empty)


BOXES, MASKS = _task("bbox"), _task("segm")
COST = (
    Metric(("cost", "step_time"), "s / step", 3, compared=False),
    Metric(("cost", "peak_memory"), "MiB", 0, compared=False),
    Metric(("cost", "seconds"), "s / run", 0, compared=False),
)
METRICS = (*BOXES, *MASKS, *COST)
# From two seeds the interval is 12.7 standard errors wide to each side: tables and figures show what was found instead.
SEEDS_OF_AN_INTERVAL = 3


@dataclass
class Comparison:
    """A study on one data set, in numbers.

    Attributes:
        rows: row -> seed -> result; rows without any result are left out.
        means: metric -> row -> estimate.
        differences: metric -> row -> estimate of row - ``versus[row]``.
        steps: metric -> row -> estimate of row - the row that it was made from, where that is another one.
        also: metric -> row -> estimate of row - the study's ``also_versus``.
        corrected: metric -> row -> Holm's p-value of the difference, over the rows of one metric with at least
            ``SEEDS_OF_AN_INTERVAL`` pairs; None for the others. ``corrected_steps`` and ``corrected_also`` likewise.
        notes: what a reader must know: results left out, seeds missing, hardware.
    """

    study: Study
    dataset: str
    rows: dict[str, dict[int, dict]]
    means: dict[Metric, dict[str, Estimate]] = field(default_factory=dict)
    differences: dict[Metric, dict[str, Estimate]] = field(default_factory=dict)
    steps: dict[Metric, dict[str, Estimate]] = field(default_factory=dict)
    corrected: dict[Metric, dict[str, float | None]] = field(default_factory=dict)
    corrected_steps: dict[Metric, dict[str, float | None]] = field(default_factory=dict)
    also: dict[Metric, dict[str, Estimate]] = field(default_factory=dict)
    corrected_also: dict[Metric, dict[str, float | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def versus(self) -> dict[str, str]:
        """Row -> the row that it is compared with; rows that are compared with themselves are not there."""
        rows = self.study.rows
        return {r: rows[r].versus for r in self.rows if rows[r].versus != r and rows[r].versus in self.rows}

    @property
    def made_from(self) -> dict[str, str]:
        """Row -> the row that it was made from, where that is not what it is compared with anyway."""
        rows, second = self.study.rows, self.study.also_versus
        parents = {r: rows[r].parent or rows[r].evaluate_of for r in self.rows}
        return {r: p for r, p in parents.items() if p in self.rows and p not in (rows[r].versus, second)}

    @property
    def also_versus(self) -> dict[str, str]:
        """Row -> the study's ``also_versus``, where that is not what it is compared with anyway."""
        other = self.study.also_versus
        return {r: other for r in self.rows if other in self.rows and other not in (r, self.study.rows[r].versus)}

    @property
    def references(self) -> tuple[tuple[dict, dict, dict], ...]:
        """(other row of each row, estimates of the differences, corrected p-values): from ``versus``, by steps, and
        from the study's second row."""
        return (
            (self.versus, self.differences, self.corrected),
            (self.made_from, self.steps, self.corrected_steps),
            (self.also_versus, self.also, self.corrected_also),
        )

    def tail_is_rarest(self, task: str) -> bool:
        """Whether the tail's AP is that of the two rarest classes in every result: the same classes."""
        found = [r["metrics"].get(task, {}) for seeds in self.rows.values() for r in seeds.values()]
        return all(values.get("AP_tail") == values.get("AP_rarest") for values in found)

    def values(self, row: str, metric: Metric) -> dict[int, float]:
        """Seed -> number, of the seeds that have it."""
        found = {seed: metric.of(result) for seed, result in self.rows[row].items()}
        return {seed: value for seed, value in found.items() if value is not None}


def compare(study: Study, runs: Sequence[Run], dataset: str) -> Comparison:
    """The numbers of one data set, from the result files of its runs alone; those of another config or other
    data are left out."""
    rows: dict[str, dict[int, dict]] = {}
    notes = []
    for run in sorted((r for r in runs if r.dataset == dataset), key=lambda r: list(study.rows).index(r.row)):
        result = read_result(run.result)
        if result is None:
            continue
        if changed := changes(result, run):
            notes.append(f"{run.row}, seed {run.seed}, is left out: it was made {describe(changed, limit=3)}")
            continue
        rows.setdefault(run.row, {})[run.seed] = result
    comparison = Comparison(study, dataset, rows, notes=notes)
    for metric in METRICS:
        by_row = {row: comparison.values(row, metric) for row in rows}
        comparison.means[metric] = {row: estimate(list(values.values())) for row, values in by_row.items()}
        for others, estimates, corrected in comparison.references:
            if metric.compared:
                estimates[metric] = {row: paired(by_row[row], by_row[other]) for row, other in others.items()}
                known = {row: e.p_value if has_interval(e) else None for row, e in estimates[metric].items()}
                corrected[metric] = holm(known)
    notes += _notes(comparison)
    return comparison


def has_interval(value: Estimate) -> bool:
    """Whether an estimate is from enough seeds for its interval and p-value to be shown."""
    return value.n >= SEEDS_OF_AN_INTERVAL


def load_comparisons(study: Study, runs: Sequence[Run]) -> list[Comparison]:
    """One a data set that has results."""
    found = [compare(study, runs, dataset) for dataset in study.datasets]
    return [c for c in found if c.rows or c.notes]


def pooled_deviation(comparison: Comparison, metric: Metric) -> float | None:
    """Standard deviation over seeds, pooled over rows: sqrt(sum (n_r - 1) s_r^2 / sum (n_r - 1)); None without any."""
    known = [e for e in comparison.means[metric].values() if e.deviation is not None]
    freedom = sum(e.n - 1 for e in known)
    return (sum((e.n - 1) * e.deviation**2 for e in known) / freedom) ** 0.5 if freedom else None


def _notes(comparison: Comparison) -> list[str]:
    notes: list[str] = []
    if not comparison.rows:
        return notes
    dataset = comparison.study.datasets[comparison.dataset]
    wanted = len(dataset.seeds)
    if lacking := [f"{row} {len(seeds)}" for row, seeds in comparison.rows.items() if len(seeds) < wanted]:
        notes.append(f"fewer than {wanted} seeds: {', '.join(lacking)}")
    if absent := [row for row in dataset.rows if row not in comparison.rows]:
        notes.append(f"no results yet: {', '.join(absent)}")
    versus = {row: comparison.study.rows[row].versus for row in comparison.rows}
    for other in dict.fromkeys(versus.values()):
        if other not in dataset.rows:
            alone = [row for row in versus if versus[row] == other]
            notes.append(f"without differences: {', '.join(alone)}; this data set does not have {other}")
    results = [result for seeds in comparison.rows.values() for result in seeds.values()]
    if copied := sorted({r["copied_from"].split("/")[0] for r in results if "copied_from" in r}):
        count = sum("copied_from" in r for r in results)
        notes.append(f"{count} results are those of equal runs of {', '.join(copied)}")
    hardware = [r.get("hardware", {}) for r in results]
    workers = Counter(h["workers"] for h in hardware if "workers" in h)
    if len(workers) > 1:
        counts = ", ".join(f"{count} from {number}" for number, count in sorted(workers.items()))
        note = f"the results come from different numbers of workers: {counts}"
        if any(reference_workers(r["config"]) for r in results):
            note += "; batch, rate and steps are scaled to the workers (SOLVER.REFERENCE_WORLD_SIZE)"
        notes.append(note)
    if len({tuple(sorted(r.get("data", {}).items())) for r in results}) > 1:
        notes.append("the results come from different versions of the data: compare their data fingerprints")
    return notes


@dataclass
class Share:
    """What one machine did of a study: results, and seconds of training, without those of copied results."""

    results: int = 0
    seconds: float = 0.0


def machines(comparison: Comparison) -> dict[str, Share]:
    """Where the results were made (device, torch, workers, and how many runs shared it) -> how many, in how long."""
    shares: dict[str, Share] = {}
    for seeds in comparison.rows.values():
        for result in seeds.values():
            hardware = result.get("hardware", {})
            device = hardware.get("device")
            if device is None:
                continue
            text = f"{device}, torch {result.get('versions', {}).get('torch', '?')}"
            workers, together = hardware.get("workers", 1), hardware.get("side_by_side", 1)
            text += f", {workers} workers" if workers != 1 else ""
            share = shares.setdefault(text + (f", {together} runs side by side" if together > 1 else ""), Share())
            share.results += 1
            if "copied_from" not in result:
                share.seconds += result.get("cost", {}).get("seconds") or 0.0
    return shares
