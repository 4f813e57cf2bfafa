"""What the switches of REG move during training: sigma, the classes' losses, beta and delta, as curves.

python tools/ablate.py configs/studies/switches.yaml --jobs 2   # trains; its tables are in docs/results.md
python benchmarks/switches.py                                   # docs/switches.md and its figures, from these runs
"""

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from reg_d2.ablation.results import read_result
from reg_d2.ablation.runs import all_runs
from reg_d2.ablation.study import load_study
from reg_d2.data.catalog import REPOSITORY
from reg_d2.report.style import DASHES, GREY, RC, RUN_COLORS, legend_below

STUDY = REPOSITORY / "configs" / "studies" / "switches.yaml"
# The rows whose curves are drawn.
ROWS = ("uncertainty", "free_energy", "primal_dual", "primal_dual_rate_0", "proximal")
# Row -> the folder of its run on one data set.
Runs = dict[str, Path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/studies"), help="of tools/ablate.py")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "docs" / "results", help="of tools/ablate.py")
    parser.add_argument("--seed", type=int, default=0, help="whose runs are drawn (default: 0)")
    parser.add_argument("--write", type=Path, default=REPOSITORY / "docs", help="folder of switches.md (default: docs)")
    args = parser.parse_args()
    write(folders(args.output, args.results, args.seed), args.seed, args.write)


def folders(output: Path, results: Path, seed: int) -> dict[str, Runs]:
    """Data set -> row -> folder of the run with this seed, for the data sets that have results.

    By the config that the result was made with, not by today's: a default that has changed since, and plays no part
    in the row, leaves its result as it is but would name another folder.

    Raises:
        SystemExit: no results at all, or a row that is drawn has none, or its folder has no metrics.json.
    """
    found: dict[str, Runs] = {}
    wanted: dict[tuple[str, str], Path] = {}
    for run in all_runs(load_study(STUDY), output, results):
        if run.seed != seed or run.row not in ROWS:
            continue
        stored = read_result(run.result)
        path = run.folder
        if stored is not None:
            path = path.with_name(f"{run.row}-seed{seed}-{stored['config_hash']}")
            found.setdefault(run.dataset, {})[run.row] = path
        wanted[run.dataset, run.row] = path
    missing = [x for x in wanted.items() if x[0][0] in found and not (x[1] / "metrics.json").is_file()]
    if not found or missing:
        what = "\n".join(f"  {dataset}, {row}: no {path / 'metrics.json'}" for (dataset, row), path in missing)
        raise SystemExit(
            f"runs of {STUDY.name} with seed {seed} are missing:\n{what or f'  no result in {results}'}\n"
            "Give the folder of tools/ablate.py's runs as --output, or train them: "
            f"python tools/ablate.py configs/studies/{STUDY.name} --seeds {seed}"
        )
    return found


def write(datasets: dict[str, Runs], seed: int, folder: Path) -> None:
    """The page and its figures, from the runs' metrics.json."""
    parts = [
        "# What the switches move",
        f"Curves of training, from the runs of `configs/studies/switches.yaml` with seed {seed}; what each switch does "
        "to AP is in [results.md](results.md). Made by `python benchmarks/switches.py`.",
    ]
    for name, title, draw, table in FIGURES:
        with matplotlib.rc_context(RC):
            fig = Figure(figsize=(9, 3.4), layout="constrained")
            axes = fig.subplots(1, len(datasets), squeeze=False)[0]
            for ax, (dataset, runs) in zip(axes, datasets.items(), strict=True):
                draw(ax, runs)
                ax.set(title=dataset, xlabel="step")
            legend_below(fig, axes[0], columns=6)
            fig.savefig(folder / "images" / f"{name}.png", dpi=110)
        parts += [f"## {title}", " ".join(draw.__doc__.split()), f"![{title}](images/{name}.png)"]
        if table is not None:
            parts.append(table(datasets))
    (folder / "switches.md").write_text("\n\n".join(parts) + "\n")


def series(run: Path, prefix: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What follows ``prefix`` in a logged name -> (steps, values)."""
    found: dict[str, list] = {}
    for line in (run / "metrics.json").read_text().splitlines():
        record = json.loads(line)
        for key, value in record.items():
            if key.startswith(prefix):
                found.setdefault(key.removeprefix(prefix), []).append((record["iteration"] + 1, value))
    return {key: tuple(np.array(values).T) for key, values in found.items()}


def sigma(ax, runs: Runs) -> None:
    """Mean sigma of the logits, trained through the marginal probability alone (`uncertainty`) and with the KL term
    (`free_energy`)."""
    for i, head in enumerate(("box", "mask")):
        for j, row in enumerate(("uncertainty", "free_energy")):
            for x, y in series(runs[row], f"reg/{head}_sigma").values():
                name = "with KL" if j else "without KL"
                ax.plot(x, y, color=RUN_COLORS[i], linestyle=DASHES[1 - j], label=f"{head}, {name}")
    ax.set(ylabel="mean sigma")
    ax.set_ylim(bottom=0)


def ratios(run: Path, head: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the standard deviation of the classes' running losses over their mean."""
    losses = series(run, f"reg/{head}_class_loss/")
    values = np.stack([y for _, y in losses.values()])
    return next(iter(losses.values()))[0], values.std(0) / values.mean(0)


def spread(ax, runs: Runs) -> None:
    """Standard deviation of the classes' mean losses over their mean, with the dual ascent and with a rate of 0."""
    for i, head in enumerate(("box", "mask")):
        for j, (row, name) in enumerate((("primal_dual_rate_0", "rate 0"), ("primal_dual", "ascent"))):
            x, y = ratios(runs[row], head)
            ax.plot(x, y, color=RUN_COLORS[i], linestyle=DASHES[1 - j], label=f"{head}, {name}")
    ax.set(ylabel="spread of class losses")
    ax.set_ylim(bottom=0)


def spread_table(datasets: dict[str, Runs]) -> str:
    rows = []
    for dataset, runs in datasets.items():
        for head in ("box", "mask"):
            ends = [ratios(runs[row], head)[1] for row in ("primal_dual_rate_0", "primal_dual")]
            rows.append([dataset, head, *(f"{y[len(y) * 3 // 4 :].mean():.3f}" for y in ends)])
    headers = ["mean of the last quarter", "head", "rate 0", "ascent"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def paths(ax, runs: Runs) -> None:
    """Learned delta over its start (`proximal`: l1 pulls it there), median and range over the classes; and the mean of
    g before it is divided by its mean, over its first value. At g = 0 the term would be lost; how far delta and beta go
    is in the table."""
    for i, head in enumerate(("box", "mask")):
        x, y = learned(runs["proximal"], head, "delta")
        ax.plot(x, np.median(y, 0), color=RUN_COLORS[i], label=f"{head} delta, median of classes")
        ax.fill_between(x, y.min(0), y.max(0), color=RUN_COLORS[i], alpha=0.2, linewidth=0)
        x, y = g_mean(runs["proximal"], head)
        ax.plot(x, y, color=GREY, linestyle=DASHES[1 + i], label=f"{head} mean of g")
    ax.set(ylabel="value over its start")
    ax.set_ylim(bottom=0)


def learned(run: Path, head: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and beta or delta over its start, classes x steps."""
    start = {"beta": 10.0, "delta": 0.15}[key]
    classes = series(run, f"reg/{head}_{key}/")
    return next(iter(classes.values()))[0], np.stack([y for _, y in classes.values()]) / start


def g_mean(run: Path, head: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the mean of g over its first value."""
    ((x, y),) = series(run, f"reg/{head}_g_mean").values()
    return x, y / y[0]


def paths_table(datasets: dict[str, Runs]) -> str:
    rows = []
    for dataset, runs in datasets.items():
        for head in ("box", "mask"):
            delta, beta = (learned(runs["proximal"], head, key)[1] for key in ("delta", "beta"))
            spans = (delta, delta[:, -1], beta, g_mean(runs["proximal"], head)[1])
            rows.append([dataset, head, *(f"{span.min():.2f} to {span.max():.2f}" for span in spans)])
    headers = ["over its start", "head", "delta, whole run", "delta, at the end", "beta, whole run", "mean of g"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


# File, title, what draws it, and what makes the table below it.
FIGURES = (
    ("switch_sigma", "Sigma with and without the KL term (E8)", sigma, None),
    ("switch_spread", "Spread of the class losses with and without dual ascent (E12)", spread, spread_table),
    ("switch_paths", "Paths of beta and delta (E14)", paths, paths_table),
)

if __name__ == "__main__":
    main()
