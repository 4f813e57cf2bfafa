"""What each switch costs: step time and memory against plain REG, and the share of a step that the losses take.

All variants are measured in one run, in turn, so that whatever else the machine does falls on all of them alike.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from ..data.coco import ClassInfo
from ..losses import box_class_distance
from ..optim import build_optimizer
from .setup import fast_layout, load_config, set_classes
from .trainer import TrainStep

CLASSES = ClassInfo(  # the paper's (E9)
    (
        *("pavilion", "pedestrian bridge", "information sign", "single-arm pole", "bus stop", "warning sign"),
        "concrete guardrail",
    ),
    (200, 100, 700, 1500, 50, 800, 300),
    (100, 50, 500, 0, 0, 400, 150),
)

_BOX, _MASK = "MODEL.REG.BOX.", "MODEL.REG.MASK."


def _both(*keys: str, value: bool = True) -> list:
    return [x for key in keys for head in (_BOX, _MASK) for x in (head + key, value)]


_ENERGY = _both("UNCERTAINTY.ENABLED", "UNCERTAINTY.FREE_ENERGY.ENABLED")
_REFINED = _both("REFINEMENT.ENABLED", "REFINEMENT.LEARNED")
_COSINE = [_BOX + "COSINE.ENABLED", True]
VARIANTS: dict[str, list] = {
    "cross-entropy": [_BOX + "LOSS", "cross_entropy", _MASK + "LOSS", "cross_entropy"],
    "REG": [],
    "without refinement (E4)": _both("REFINEMENT.ENABLED", value=False),
    "uncertainty (E6, E7)": _both("UNCERTAINTY.ENABLED"),
    "free energy (E8)": _ENERGY,
    "primal-dual (E12)": _both("PRIMAL_DUAL.ENABLED"),
    "cosine (E13)": _COSINE,
    "proximal (E14)": _REFINED,
    "all": [*_ENERGY, *_both("PRIMAL_DUAL.ENABLED"), *_COSINE, *_REFINED, "MODEL.REG.LAMBDA.LEARNED", True],
}
REFERENCE = "REG"


# An iteration at which no head writes its log: its period is 20.
LOG_OFF = 0


def measure(
    config_file: str, options: Sequence, *, batch: int, size: tuple[int, int], steps: int, variants: Mapping = VARIANTS
) -> list[dict]:
    """Median step time, loss time and memory of each variant.

    Args:
        config_file, options: the model; data keys play no part, the batch is made here.
        batch: images a step.
        size: (width, height) of the images in pixels.
        steps: of each variant, after 2 to warm up.
        variants: name -> config options.

    Returns:
        One dict a variant: ``name``, ``times`` of its steps, ``step`` and ``losses`` in seconds (medians; losses with
        their backward pass, without Detectron2's cropping of masks), ``memory`` in MiB (CUDA: peak of its step; CPU:
        what its parameters, buffers and optimiser hold, since a process has one peak for all).
    """
    runs = {name: _Run(load_config(config_file, [*options, *extra]), batch, size) for name, extra in variants.items()}
    with EventStorage(LOG_OFF):
        for i in range(steps + 2):
            for run in runs.values():
                run.step(keep=i >= 2)
        return [{"name": name, **run.result()} for name, run in runs.items()]


class _Run:
    """One variant: model, optimiser, and the times it took."""

    def __init__(self, cfg: CfgNode, batch: int, size: tuple[int, int]):
        set_classes(cfg, CLASSES)
        torch.manual_seed(0)
        self.model = fast_layout(build_model(cfg), cfg)
        self.device = next(self.model.parameters()).device
        self.batch = _batch(batch, size)
        # A learning rate at which ever the same batch leaves the weights, and so the work, as they are.
        cfg.SOLVER.BASE_LR = 1e-6
        self.trainer = TrainStep(
            self.model,
            itertools.repeat(self.batch),
            build_optimizer(cfg, self.model),
            amp=cfg.SOLVER.AMP.ENABLED,
            seed=0,
        )
        self.trainer._write_metrics = lambda *_: None
        self.times: list[float] = []
        self.memory = 0.0

    def step(self, keep: bool) -> None:
        self.trainer.iter = 0
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = _timed(self.trainer.run_step, self.device)
        if keep:
            self.times.append(seconds)
        if self.device.type == "cuda":
            self.memory = torch.cuda.max_memory_allocated() / 2**20

    def result(self) -> dict:
        return {
            "times": list(self.times),
            "step": statistics.median(self.times),
            "losses": self._loss_time(),
            "memory": self.memory if self.device.type == "cuda" else self._held(),
        }

    def _held(self) -> float:
        tensors = [*self.model.parameters(), *self.model.buffers()]
        tensors += [x for s in self.trainer.optimizer.state.values() for x in s.values() if torch.is_tensor(x)]
        return sum(x.numel() * x.element_size() for x in tensors) / 2**20

    def _loss_time(self, repeats: int = 5) -> float:
        """Seconds of box and mask loss of one batch, forward and backward, on the heads' own outputs."""
        heads, device = self.model.roi_heads, self.device
        with torch.no_grad():
            images = self.model.preprocess_image(self.batch)
            truth = [x["instances"].to(device) for x in self.batch]
            features = self.model.backbone(images.tensor)
            proposals, _ = self.model.proposal_generator(images, features, truth)
            sampled = heads.label_and_sample_proposals(proposals, truth)
            pooled = heads.box_pooler([features[f] for f in heads.box_in_features], [x.proposal_boxes for x in sampled])
            predictions = heads.box_predictor(heads.box_head(pooled))
            foreground = [x[(x.gt_classes < heads.num_classes)] for x in sampled]
            foreground = [x[self.model.roi_heads.mask_head.channels[x.gt_classes] >= 0] for x in foreground]
            pooled = heads.mask_pooler(
                [features[f] for f in heads.mask_in_features], [x.proposal_boxes for x in foreground]
            )
            mask_outputs = heads.mask_head.layers(pooled)
        predictions = tuple(x.detach().requires_grad_() for x in predictions)
        mask_outputs = tuple(None if x is None else x.detach().requires_grad_() for x in mask_outputs)
        side = mask_outputs[0].shape[-1]

        def losses():
            if heads.distance_metric is not None:
                for x, y in zip(sampled, truth, strict=True):
                    boxes = (x.proposal_boxes.tensor, y.gt_boxes.tensor)
                    box_class_distance(
                        *boxes, y.gt_classes, heads.num_classes, x.image_size, metric=heads.distance_metric
                    )
            box = heads.box_predictor.losses(predictions, sampled)
            mask = dict(heads.mask_head._losses(*mask_outputs, foreground))
            torch.autograd.backward(sum(v for k, v in (box | mask).items() if k != "loss_box_reg"))

        def crop():
            for x in foreground:
                x.gt_masks.crop_and_resize(x.proposal_boxes.tensor, side)

        values = [_timed(losses, device) - _timed(crop, device) for _ in range(repeats + 1)]
        return statistics.median(values[1:])


def table(rows: Sequence[dict]) -> list[list]:
    """Rows for printing: name, seconds a step, difference from REG in percent, loss share in percent, MiB.

    The difference is that of the steps that were taken one after the other, median and quartiles: where the quartiles
    are on both sides of 0, the machine's noise is larger than the difference.
    """
    reference = next((row for row in rows if row["name"] == REFERENCE), rows[0])
    return [
        [
            row["name"],
            f"{row['step']:.3f}",
            "" if row is reference else _difference(row["times"], reference["times"]),
            f"{100 * row['losses'] / row['step']:.2f} %",
            f"{row['memory']:.0f}",
        ]
        for row in rows
    ]


def _difference(times: Sequence[float], reference: Sequence[float]) -> str:
    """``+1.7 % (-0.4 to +3.1)``"""
    percent = [100 * (a / b - 1) for a, b in zip(times, reference, strict=True)]
    low, middle, high = np.percentile(percent, [25, 50, 75])
    return f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"


def _timed(function: Callable, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _batch(number: int, size: tuple[int, int], objects: int = 8) -> list[dict]:
    """Images of noise with octagons for objects, of every class, with masks where the class has them."""
    rng = np.random.default_rng(0)
    width, height = size
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    result = []
    for i in range(number):
        radius = rng.uniform(0.05, 0.25, objects) * min(size)
        center = rng.uniform(radius, np.array([[width], [height]]) - radius)
        outline = center.T[:, None] + radius[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(
            torch.tensor(np.concatenate([center - radius, center + radius]).T, dtype=torch.float32)
        )
        instances.gt_classes = torch.arange(objects) % len(CLASSES.names)
        instances.gt_has_mask = torch.tensor([CLASSES.mask_counts[c] > 0 for c in instances.gt_classes])
        instances.gt_masks = PolygonMasks([[o.flatten()] for o in outline])
        image = torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))
        result.append({"image": image, "height": height, "width": width, "image_id": i, "instances": instances})
    return result
