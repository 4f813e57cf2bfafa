"""How often each training image is drawn: repeat factors, class-aware sampling, and the share of empty images.

Every method comes down to one number an image, the expected number of its draws in one pass. Detectron2's
``RepeatFactorTrainingSampler`` draws by such numbers: the same stream each time for a seed, shared by the processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.samplers import RepeatFactorTrainingSampler
from tabulate import tabulate

from .coco import has_mask

METHODS = ("uniform", "repeat_factor", "class_aware")
EMPTY_IMAGES = ("keep", "drop", "ratio")


@dataclass(frozen=True)
class Sampling:
    """``DATALOADER.SAMPLING``, checked where it is made; see reg_d2/config.py for the meaning of each."""

    method: str = "uniform"
    threshold: float = 0.0
    power: float = 0.5
    empty_images: str = "keep"
    empty_ratio: float = 0.1

    def __post_init__(self):
        for key, value, valid in (
            ("METHOD", self.method, METHODS),
            ("EMPTY_IMAGES", self.empty_images, EMPTY_IMAGES),
        ):
            if value not in valid:
                raise ValueError(f"DATALOADER.SAMPLING.{key} {value!r} is unknown: choose one of {', '.join(valid)}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"DATALOADER.SAMPLING.THRESHOLD is {self.threshold}: expected a share of images in [0, 1]")
        if not self.power >= 0:
            raise ValueError(f"DATALOADER.SAMPLING.POWER is {self.power}: expected a number >= 0")
        if not 0 <= self.empty_ratio < 1:
            raise ValueError(f"DATALOADER.SAMPLING.EMPTY_RATIO is {self.empty_ratio}: expected a share in [0, 1)")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Sampling":
        """The node of a whole config. ``repeat_factor``, the method of our configs, gives way to another SAMPLER_TRAIN.

        Raises:
            ValueError: a value out of range; Detectron2's own sampler is chosen beside what it cannot do.
        """
        node = cfg.DATALOADER.SAMPLING
        sampling = cls(node.METHOD, node.THRESHOLD, node.POWER, node.EMPTY_IMAGES, node.EMPTY_RATIO)
        if cfg.DATALOADER.SAMPLER_TRAIN == "TrainingSampler":
            return sampling
        if sampling.method == "repeat_factor":
            sampling = replace(sampling, method="uniform")
        if sampling.active:
            raise ValueError(
                f"DATALOADER.SAMPLER_TRAIN is {cfg.DATALOADER.SAMPLER_TRAIN} and DATALOADER.SAMPLING is set, too "
                f"(METHOD {node.METHOD}, EMPTY_IMAGES {node.EMPTY_IMAGES}): leave SAMPLER_TRAIN at TrainingSampler, or "
                "SAMPLING at uniform and keep"
            )
        return sampling

    @property
    def active(self) -> bool:
        """Whether some images are drawn more often than others."""
        return self.method != "uniform" or self.empty_images != "keep"


def object_counts(records: Sequence[dict], num_classes: int, masks: bool = False) -> np.ndarray:
    """(N, C) int64: objects of each class in each image, crowds not counted.

    Args:
        records: N of Detectron2's dataset dicts.
        num_classes: C.
        masks: only the objects with a mask.
    """
    pairs = [
        (i, a["category_id"])
        for i, record in enumerate(records)
        for a in record["annotations"]
        if not a.get("iscrowd", 0) and (not masks or has_mask(a))
    ]
    image, category = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return np.bincount(image * num_classes + category, minlength=len(records) * num_classes).reshape(-1, num_classes)


def class_shares(counts: np.ndarray) -> np.ndarray:
    """(C,) float64 in [0, 1]: the share of the images that show each class, from (N, C) counts."""
    return (counts > 0).mean(axis=0)


def median_share(shares: np.ndarray) -> float:
    """The threshold that follows from the data: the median of the shares of images, over the classes that occur.

    The usual 0.001 repeats only classes that are in fewer than one image of a thousand: none of seven.
    """
    shares = np.asarray(shares)
    return float(np.median(shares[shares > 0])) if (shares > 0).any() else 0.0


def class_repeats(shares: np.ndarray, threshold: float, power: float = 0.5) -> np.ndarray:
    """(C,) float64 >= 1: r_c = max(1, (t / f_c)^power) of classes in a share f_c of the images; 1 for an absent one."""
    shares = np.asarray(shares, dtype=np.float64)
    return np.maximum(1.0, threshold / np.where(shares > 0, shares, np.inf)) ** power


def expected_draws(counts: np.ndarray, sampling: Sampling) -> np.ndarray:
    """(N,) float64 >= 0: how often one pass draws each image, in expectation.

    repeat_factor: r_i = max over the classes of image i of r_c. class_aware: N_o / C sum over these of 1 / N_c, with
    N_o images with objects, N_c with class c: as often as by drawing a class, then one of its images. Images without
    objects: once (keep), never (drop), or so often that they are ``empty_ratio`` of all draws.

    Args:
        counts: (N, C) objects.
        sampling: the settings.

    Raises:
        ValueError: nothing is left to draw.
    """
    there = counts > 0
    empty = ~there.any(axis=1)
    draws = np.ones(len(counts))
    if sampling.method == "repeat_factor":
        shares = class_shares(counts)
        repeats = class_repeats(shares, sampling.threshold or median_share(shares), sampling.power)
        draws = np.where(there, repeats, 1.0).max(axis=1)
    elif sampling.method == "class_aware":
        images = there.sum(axis=0)
        share = np.where(images > 0, 1 / np.maximum(images, 1), 0.0) / max((images > 0).sum(), 1)
        draws = (~empty).sum() * (there @ share)
    draws[empty] = 1.0
    if sampling.empty_images == "drop":
        draws[empty] = 0.0
    elif sampling.empty_images == "ratio" and empty.any():
        wanted = sampling.empty_ratio / (1 - sampling.empty_ratio) * draws[~empty].sum()
        draws[empty] = wanted / empty.sum()
    if not draws.sum() > 0:
        raise ValueError(
            "DATALOADER.SAMPLING leaves no image to draw: no training image has an object, and those without are "
            f"left out (EMPTY_IMAGES {sampling.empty_images})"
        )
    return draws


def image_draws(cfg: CfgNode, records: Sequence[dict]) -> torch.Tensor | None:
    """(N,) float32: the expected draws of each image in one pass under a config; None where each is drawn once.

    Raises:
        ValueError: as of :class:`Sampling` and :func:`expected_draws`.
    """
    sampling = Sampling.from_config(cfg)
    if cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler":
        threshold = cfg.DATALOADER.REPEAT_THRESHOLD
        return RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(records, threshold)
    if not sampling.active:
        return None
    counts = object_counts(records, cfg.MODEL.ROI_HEADS.NUM_CLASSES)
    return torch.from_numpy(expected_draws(counts, sampling)).float()


def without_objects(records: Sequence[dict]) -> np.ndarray:
    """(N,) bool: the images of ``records`` that have no object, or crowds alone."""
    return np.array([all(a.get("iscrowd", 0) for a in record["annotations"]) for record in records])


def describe(cfg: CfgNode, records: Sequence[dict], draws: torch.Tensor | None) -> str:
    """What the log says of the sampling: images with and without objects, and a row a class where it changes anything.

    Args:
        cfg: the whole config; the class names are taken from it.
        records: the training images.
        draws: of :func:`image_draws`.
    """
    sampling = Sampling.from_config(cfg)
    empty = without_objects(records)
    policy = "filtered before" if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS else sampling.empty_images
    text = f"Training images: {len(records)}, of these {empty.sum()} without objects ({policy})"
    if draws is None:
        return text
    counts, draws = object_counts(records, cfg.MODEL.ROI_HEADS.NUM_CLASSES), draws.double().numpy()
    method = cfg.DATALOADER.SAMPLER_TRAIN if sampling.method == "uniform" else sampling.method
    if sampling.method == "repeat_factor":
        shares = class_shares(counts)
        chosen = "" if sampling.threshold else " (the median of the classes)"
        method += f", threshold {sampling.threshold or median_share(shares):.4g}{chosen}"
    text += f"\nSampling: {method}; a pass draws {draws.sum():.1f} images, {draws[empty].sum():.1f} of them empty"
    names = list(cfg.MODEL.REG.CLASS_NAMES) or [f"class {c}" for c in range(counts.shape[1])]
    images, shown = (counts > 0).sum(axis=0), draws @ (counts > 0)
    rows = zip(names, images, shown, counts.sum(axis=0), draws @ counts, strict=True)
    rows = [[name, i, f"{d:.1f}", n, f"{e:.1f}", f"{d / i:.2f}" if i else "-"] for name, i, d, n, e in rows]
    headers = ["class", "images", "drawn", "objects", "shown", "drawn / images"]
    return f"{text}\n{tabulate(rows, headers=headers, tablefmt='github', disable_numparse=True)}"
