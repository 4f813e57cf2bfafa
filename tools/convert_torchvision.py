#!/usr/bin/env python
"""Convert a torchvision ResNet or ResNeXt checkpoint into pretrained weights for MODEL.WEIGHTS.

    python tools/convert_torchvision.py resnet18-f37072fd.pth resnet18.pkl
    python tools/train_net.py --config-file configs/REG-A-R18.yaml MODEL.WEIGHTS resnet18.pkl

The input is a state_dict file such as torchvision's model pages offer. Exit status 2: it is none, or of no ResNet.
"""

import argparse
import os
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import torch

# (blocks of each stage, bottleneck?) -> MODEL.RESNETS.DEPTH
DEPTHS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
STEM = re.compile(r"(?:conv1|bn1)\.\w+")
BLOCK = re.compile(r"layer([1-4])\.(\d+)\.(conv[123]|bn[123]|downsample\.[01])\.(\w+)")


def rename(key: str) -> str | None:
    """torchvision's name of a tensor -> Detectron2's; None for the classifier, which a detector does not have.

    Raises:
        ValueError: a name that a torchvision ResNet does not have.
    """
    if key.startswith("fc."):
        return None
    if STEM.fullmatch(key):
        return "stem." + key.replace("bn1", "conv1.norm")
    match = BLOCK.fullmatch(key)
    if match is None:
        raise ValueError(f"{key!r} is no tensor of a torchvision ResNet")
    stage, block, layer, kind = match.groups()
    layer = {"downsample.0": "shortcut", "downsample.1": "shortcut.norm"}.get(layer, layer)
    layer = re.sub(r"bn(\d)", r"conv\1.norm", layer)
    return f"res{int(stage) + 1}.{block}.{layer}.{kind}"


def convert(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Rename every tensor but the classifier's.

    Raises:
        ValueError: not a torchvision ResNet's tensors.
    """
    renamed = {rename(key): value.numpy() for key, value in state.items()}
    renamed.pop(None, None)
    describe(renamed)
    return renamed


def describe(weights: dict[str, np.ndarray]) -> dict[str, int]:
    """The keys of ``MODEL.RESNETS`` that a model needs to take these converted weights.

    Raises:
        ValueError: a tensor of the architecture is missing, or no ResNet of 18 to 152 layers has these blocks.
    """
    needed = ["stem.conv1.weight", "stem.conv1.norm.running_var", "res2.0.conv2.weight"]
    missing = [key for key in needed if key not in weights]
    if missing:
        raise ValueError(f"no torchvision ResNet: it lacks what would become {', '.join(missing)}")
    blocks = tuple(len({k.split(".")[1] for k in weights if k.startswith(f"res{s}.")}) for s in (2, 3, 4, 5))
    bottleneck = "res2.0.conv3.weight" in weights
    if (blocks, bottleneck) not in DEPTHS:
        kind = "bottleneck" if bottleneck else "basic"
        raise ValueError(f"{blocks} {kind} blocks: Detectron2 builds ResNets of {sorted(DEPTHS.values())} layers")
    keys = {"DEPTH": DEPTHS[blocks, bottleneck]}
    if not bottleneck:
        return keys | {"RES2_OUT_CHANNELS": 64}
    channels, channels_per_group = weights["res2.0.conv2.weight"].shape[:2]
    return keys | {"NUM_GROUPS": channels // channels_per_group, "WIDTH_PER_GROUP": channels_per_group}


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, also of one that has them below ``state_dict`` or ``model``, or from DDP.

    Raises:
        OSError: no such file, or one that cannot be read.
        ValueError: not a file of tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} is not a file of tensors written by torch.save: {reason}") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"{path} holds no state_dict: expected tensors by name")
    return {key.removeprefix("module."): value for key, value in state.items()}


def write_pickle(path: Path, weights: dict[str, np.ndarray]) -> None:
    """Write Detectron2's model-zoo format, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as f:
            pickle.dump({"model": weights, "__author__": "torchvision", "matching_heuristics": True}, f)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path, metavar="INPUT.pth", help="state_dict of a torchvision ResNet or ResNeXt")
    parser.add_argument("output", type=Path, metavar="OUTPUT.pkl", help="file to write, for MODEL.WEIGHTS")
    args = parser.parse_args(argv)
    if args.output.suffix != ".pkl":
        parser.error(f"{args.output}: the output must end in .pkl, by which Detectron2 knows the format")
    try:
        weights = convert(read_state(args.input))
        write_pickle(args.output, weights)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    needs = " ".join(f"MODEL.RESNETS.{key} {value}" for key, value in describe(weights).items())
    print(
        f"{len(weights)} tensors: {args.output}\nIt fits {needs}, with the Base config's NORM BN, STRIDE_IN_1X1 False"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
