"""Stands in for tools/train_net.py in the tests: its flags, files and signals, with counting for training.

Config keys that mean something else here: SOLVER.BASE_LR (AP / 100), SOLVER.WARMUP_ITERS (milliseconds a step),
TEST.EVAL_PERIOD (the step that fails; 0: none), TEST.DETECTIONS_PER_IMAGE (7: deaf to signals; 106: asked to stop, it
does not say by its exit status that it has; 107: no results; from 108 on: results that are none; from 114: costs).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

CLASSES = {"sign": 60, "pole": 30, "rail": 10}
NO_RESULTS = {
    "108": '{"bbox": {"AP": NaN}}',
    "109": '{"bbox": 1.0}',
    "110": "[1]",
    "111": '{"bbox": {"per_class": {"a": null}}}',
    "112": '{"bbox": {"AP": "high"}}',
    "113": '{"bbox": {"AP": 1.0, "per_class": {"a": {"AP": [1], "num_gt": 3}}}}',
}
NO_COST = {
    "114": "[1]",
    "115": '{"hardware": null}',
    "116": '{"hardware": {"workers": "two"}}',
    "117": '{"step_time": "1"}',
}


def main(arguments):
    flags = [a for a in arguments if a.startswith("--")]
    start = next(i for i, a in enumerate(arguments) if a.isupper() or ("." in a and a.split(".")[0].isupper()))
    options = dict(zip(arguments[start::2], arguments[start + 1 :: 2], strict=True))
    out, kind = Path(options["OUTPUT_DIR"]), options.get("TEST.DETECTIONS_PER_IMAGE")
    out.mkdir(parents=True, exist_ok=True)
    (out / "calls.txt").open("a").write(f"{os.getpid()} {' '.join(arguments)}\n")
    if "--eval-only" in flags:
        quality = json.loads(Path(options["MODEL.WEIGHTS"]).read_text())["quality"] / 2
    else:
        quality = train(out, options, resume="--resume" in flags)
        cost = {"steps": 1, "step_time": 0.1, "data_time": 0.01, "seconds": 1.0, "peak_memory": 100.0}
        good = json.dumps({**cost, "hardware": {"device": "an abacus", "workers": 1}})
        (out / "cost.json").write_text(NO_COST.get(kind, good))
    if kind == "107":
        return
    good = json.dumps(results(quality + 0.001 * int(options["SEED"]) ** 2))
    (out / "results.json").write_text(NO_RESULTS.get(kind, good))


def train(out, options, resume):
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        deaf = options.get("TEST.DETECTIONS_PER_IMAGE") == "7"
        signal.signal(number, signal.SIG_IGN if deaf else lambda *_: stopped.append(1))
    quality = float(options.get("SOLVER.BASE_LR", 0))
    begin = 0
    if resume and (out / "last_checkpoint").is_file():
        begin = json.loads((out / (out / "last_checkpoint").read_text()).read_text())["step"]
    steps = int(options["SOLVER.MAX_ITER"])

    def save(name, step):
        temporary = out / f"{name}.tmp"
        temporary.write_text(json.dumps({"step": step, "quality": quality}))
        os.replace(temporary, out / name)
        temporary.write_text(name)
        os.replace(temporary, out / "last_checkpoint")

    for step in range(begin, steps):
        if step + 1 == int(options.get("TEST.EVAL_PERIOD", 0)):
            print("Traceback (most recent call last):\nValueError: the abacus broke")
            sys.exit(1)
        time.sleep(float(options.get("SOLVER.WARMUP_ITERS", 1)) / 1000)
        with open(out / "steps.txt", "a") as file:
            file.write(f"{os.getpid()} {step}\n")
        with open(out / "metrics.json", "a") as file:
            file.write(json.dumps({"iteration": step}) + "\n")
        if (step + 1) % 10 == 0:
            save(f"model_{step:07d}.pth", step + 1)
        if stopped:
            save("model_interrupted.pth", step + 1)
            sys.exit(0 if options.get("TEST.DETECTIONS_PER_IMAGE") == "106" else 130)
    save("model_final.pth", steps)
    return quality


def results(quality):
    rates = {"precision": 60.0, "recall": 40.0, "f1": 48.0, "AP50": 150 * quality, "AP75": 80 * quality}
    per_class = {name: {"AP": 100 * quality + n / 10, "num_gt": n} for name, n in CLASSES.items()}
    groups = dict(zip(("head", "middle", "tail"), CLASSES, strict=True))
    by_frequency = {
        group: {"AP": per_class[name]["AP"], "classes": [name], "train_counts": [CLASSES[name]]}
        for group, name in groups.items()
    }
    task = {"AP": 100 * quality, **rates, "per_class": per_class, "by_frequency": by_frequency}
    return {"bbox": task, "segm": {**task, "AP": 90 * quality}, "segm_boxes": task}


if __name__ == "__main__":
    main(sys.argv[1:])
