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

from reg_d2.ablation.runs import all_runs
from reg_d2.ablation.study import load_study
from reg_d2.data.catalog import REPOSITORY
from reg_d2.report.style import DASHES, GREY, RC, RUN_COLORS, legend_below

STUDY = REPOSITORY / "configs" / "studies" / "switches.yaml"
# Row -> the folder of its run on one data set.
Runs = dict[str, Path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/studies"), help="of tools/ablate.py")
    parser.add_argument("--seed", type=int, default=0, help="whose runs are drawn (default: 0)")
    parser.add_argument("--write", type=Path, default=REPOSITORY / "docs", help="folder of switches.md (default: docs)")
    args = parser.parse_args()
    write(folders(args.output, args.seed), args.seed, args.write)


def folders(output: Path, seed: int) -> dict[str, Runs]:
    """Data set -> row -> folder of the run with this seed, of the study's data sets with any run."""
    study = load_study(STUDY)
    found: dict[str, Runs] = {}
    for run in all_runs(study, output, output):
        if run.seed == seed and (run.folder / "metrics.json").is_file():
            found.setdefault(run.dataset, {})[run.row] = run.folder
    if not found:
        raise SystemExit(f"{output} has no run of {STUDY.name} with seed {seed}: run tools/ablate.py first")
    return found


def write(datasets: dict[str, Runs], seed: int, folder: Path) -> None:
    """The page and its figures, from the runs' metrics.json."""
    parts = [
        "# What the switches move",
        f"Curves of training, from the runs of `configs/studies/switches.yaml` with seed {seed}; what each switch does "
        "to AP is in [results.md](results.md). Made by `python benchmarks/switches.py`.",
    ]
    for name, title, draw in FIGURES:
        with matplotlib.rc_context(RC):
            fig = Figure(figsize=(9, 3.4), layout="constrained")
            axes = fig.subplots(1, len(datasets), squeeze=False)[0]
            for ax, (dataset, runs) in zip(axes, datasets.items(), strict=True):
                draw(ax, runs)
                ax.set(title=dataset, xlabel="step")
            legend_below(fig, axes[0], columns=6)
            fig.savefig(folder / "images" / f"{name}.png", dpi=110)
        parts += [f"## {title}", " ".join(draw.__doc__.split()), f"![{title}](images/{name}.png)"]
        if draw is spread:
            parts.append(spread_table(datasets))
    (folder / "switches.md").write_text("\n\n".join(parts) + "\n")


def series(run: Path | None, prefix: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What follows ``prefix`` in a logged name -> (steps, values)."""
    found: dict[str, list] = {}
    for line in (run / "metrics.json").read_text().splitlines() if run is not None else ():
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
            for x, y in series(runs.get(row), f"reg/{head}_sigma").values():
                name = "with KL" if j else "without KL"
                ax.plot(x, y, color=RUN_COLORS[i], linestyle=DASHES[1 - j], label=f"{head}, {name}")
    ax.set(ylabel="mean sigma")
    ax.set_ylim(bottom=0)


def ratios(run: Path | None, head: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the standard deviation of the classes' running losses over their mean."""
    losses = series(run, f"reg/{head}_class_loss/")
    if not losses:
        return np.array([]), np.array([])
    values = np.stack([y for _, y in losses.values()])
    return next(iter(losses.values()))[0], values.std(0) / values.mean(0)


def spread(ax, runs: Runs) -> None:
    """Standard deviation of the classes' mean losses over their mean, with the dual ascent and with a rate of 0."""
    for i, head in enumerate(("box", "mask")):
        for j, (row, name) in enumerate((("primal_dual_rate_0", "rate 0"), ("primal_dual", "ascent"))):
            x, y = ratios(runs.get(row), head)
            ax.plot(x, y, color=RUN_COLORS[i], linestyle=DASHES[1 - j], label=f"{head}, {name}")
    ax.set(ylabel="spread of class losses")
    ax.set_ylim(bottom=0)


def spread_table(datasets: dict[str, Runs]) -> str:
    rows = []
    for dataset, runs in datasets.items():
        for head in ("box", "mask"):
            ends = [ratios(runs.get(row), head)[1] for row in ("primal_dual_rate_0", "primal_dual")]
            rows.append([dataset, head, *(f"{y[len(y) * 3 // 4 :].mean():.3f}" if len(y) else "" for y in ends)])
    headers = ["mean of the last quarter", "head", "rate 0", "ascent"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def paths(ax, runs: Runs) -> None:
    """Learned beta and delta of each class over their start (`proximal`: l1 pulls them there), and the mean of g before
    it is divided by its mean, over its first value."""
    for i, key in enumerate(("beta", "delta")):
        for head, style in (("box", DASHES[0]), ("mask", DASHES[1])):
            for j, (x, y) in enumerate(series(runs.get("proximal"), f"reg/{head}_{key}/").values()):
                start = {"beta": 10.0, "delta": 0.15}[key]
                label = f"{head} {key}" if j == 0 else None
                ax.plot(x, y / start, color=RUN_COLORS[i], linestyle=style, linewidth=1, alpha=0.8, label=label)
    for head, style in (("box", ":"), ("mask", "-.")):
        for x, y in series(runs.get("proximal"), f"reg/{head}_g_mean").values():
            ax.plot(x, y / y[0], color=GREY, linestyle=style, label=f"{head} mean of g")
    ax.set(ylabel="value over its start")


FIGURES = (
    ("switch_sigma", "Sigma with and without the KL term (E8)", sigma),
    ("switch_spread", "Spread of the class losses with and without dual ascent (E12)", spread),
    ("switch_paths", "Paths of beta and delta (E14)", paths),
)

if __name__ == "__main__":
    main()
