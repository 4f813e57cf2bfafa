"""The weights that every run of the studies starts from: python benchmarks/study_start.py output/start

A study's runs are short, and from random weights most of a short run goes by before the heads see features worth
classifying: after 600 steps the two rarest classes had an AP of 1, whatever the loss. People start from a trained
backbone; none can be downloaded everywhere, so this trains one: on made scenes of another seed, with all seven classes
merged into one, so that nothing about the classes or their balance is learned. Kept, as float16: backbone, proposals,
and what the two heads have below their predictors. A few minutes; a second call goes on where the first was stopped.
"""

import argparse
import json
import pickle
import subprocess
import sys
from pathlib import Path

import torch

from reg_d2.data.catalog import REPOSITORY, dataset_root
from reg_d2.evaluation.results import replace_text

CONFIG = REPOSITORY / "configs" / "studies" / "base" / "start.yaml"
SCENES = "--train-images 1200 --val-images 200 --size 384x216 --scale 1.2 --difficulty 0.15 --seed 9"
# Of the checkpoint's tensors: what has nothing to do with classes.
KEPT = ("backbone.", "proposal_generator.", "roi_heads.box_head.", "roi_heads.mask_head.")
LEFT_OUT = "roi_heads.mask_head.predictor."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the training")
    parser.add_argument("--weights", type=Path, default=CONFIG.with_suffix(".pkl"), help="the file that is written")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys")
    args = parser.parse_args()
    make_scenes(dataset_root() / "start")
    options = ["OUTPUT_DIR", str(args.folder), "TEST.REPORT", "False", *args.opts]
    line = [sys.executable, str(REPOSITORY / "tools" / "train_net.py"), "--config-file", str(CONFIG), "--resume"]
    subprocess.run([*line, *options], check=True)
    state = torch.load(args.folder / "model_final.pth", map_location="cpu", weights_only=True)["model"]
    content = {"model": classless(state), "__author__": "reg_d2 benchmarks/study_start.py"}
    args.weights.write_bytes(pickle.dumps(content))
    print(f"{args.weights}: {args.weights.stat().st_size / 1e6:.1f} MB")


def make_scenes(folder: Path) -> None:
    """The scenes of the catalogue's start_train and start_val, all of whose objects are of one class."""
    if not (folder / "instances_val.json").exists():
        tool = str(REPOSITORY / "tools" / "make_highway.py")
        subprocess.run([sys.executable, tool, "--output", str(folder), *SCENES.split()], check=True)
    for file in folder.glob("instances_*.json"):
        content = json.loads(file.read_text())
        content["categories"] = [{"id": 1, "name": "object"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = 1
        replace_text(file, json.dumps(content))


def classless(state: dict[str, torch.Tensor]) -> dict:
    """The tensors that any number of classes can start from, as float16 arrays."""
    kept = {k: v for k, v in state.items() if k.startswith(KEPT) and not k.startswith(LEFT_OUT)}
    return {k: v.half().numpy() if v.is_floating_point() else v.numpy() for k, v in kept.items()}


if __name__ == "__main__":
    main()
