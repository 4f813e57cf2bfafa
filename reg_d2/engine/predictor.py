"""A trained checkpoint on pictures, without a data set: reading, predicting, and the predictions as plain JSON."""

import json
import math
import os
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.layers import paste_masks_in_image
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..evaluation.calibration import Calibrator
from ..evaluation.evaluator import instances_to_coco
from ..evaluation.results import replace_text
from .checkpoint import ClassRecord
from .setup import checkpoint_record, fast_layout, get_classes, get_record, set_record


class Predictor:
    """The model of a checkpoint; call it with a picture.

    Attributes:
        cfg: a frozen copy of the config, with the checkpoint's classes in it.
        classes: the checkpoint's class names and counts.
        score_threshold: predictions below it are left out.
    """

    def __init__(self, cfg: CfgNode, score_threshold: float = 0.5, calibrator: Calibrator | None = None):
        """
        Args:
            cfg: of the checkpoint ``MODEL.WEIGHTS``; not changed. No data set is needed.
            score_threshold: in [0, 1]; of the calibrated score where there is a calibrator.
            calibrator: of the same classes, from ``tools/evaluate.py``; maps the scores before the threshold.

        Raises:
            FileNotFoundError: no such checkpoint.
            ValueError: not a checkpoint, one that does not fit the config, a threshold outside [0, 1], or a calibrator
                of other classes.
        """
        if not 0.0 <= score_threshold <= 1.0:
            raise ValueError(f"score threshold {score_threshold}: expected a number from 0 to 1")
        weights = cfg.MODEL.WEIGHTS
        cfg = cfg.clone()
        cfg.defrost()
        set_record(cfg, trained_record(weights))
        if calibrator is None:
            # What is left out anyway needs no mask; the margin keeps a score equal to the threshold.
            cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = score_threshold - 1e-6
        cfg.freeze()
        self.cfg, self.classes, self.score_threshold = cfg, get_classes(cfg), score_threshold
        if calibrator is not None and list(calibrator.names) != list(self.classes.names):
            raise ValueError(
                f"the calibrator was fitted on the classes {list(calibrator.names)}, and {weights} has "
                f"{list(self.classes.names)}: fit one with tools/evaluate.py --calibration-dataset"
            )
        self.calibrator = calibrator
        self._model = fast_layout(build_model(cfg).eval(), cfg)
        load_weights(self._model, cfg)
        self._resize = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST)

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Instances:
        """Predict on one picture.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            Instances on the CPU, by falling score: ``pred_boxes`` (N, 4) XYXY in pixels of ``image``, ``scores`` (N,)
            from the threshold up, ``pred_classes`` (N,) indices of ``classes.names``, ``has_mask`` (N,) bool, False
            for a class with boxes only, and, of a model with masks, ``pred_masks`` (N, H, W) bool. Of a model with
            uncertainty (E6) also ``score_std`` (N,) in [0, 1], the standard deviation of the object's probability
            before any calibrator, and, with ``MODEL.REG.MASK.UNCERTAINTY.OUTPUT_STD``, ``pred_mask_std`` (N, H, W)
            float32 in [0, 1] for each pixel (in steps of 1/255).
        """
        height, width = image.shape[:2]
        given = image[:, :, ::-1] if self.cfg.INPUT.FORMAT == "BGR" else image
        given = self._resize.get_transform(given).apply_image(given)
        tensor = torch.as_tensor(np.ascontiguousarray(given.astype(np.float32).transpose(2, 0, 1)))
        output = self._model([{"image": tensor, "height": height, "width": width}])[0]["instances"].to("cpu")
        if self.calibrator is not None:
            scores = self.calibrator(output.scores.numpy(), output.pred_classes.numpy())
            output.scores = torch.as_tensor(scores, dtype=torch.float32)
            output = output[torch.sort(output.scores, descending=True, stable=True).indices]
        output = output[output.scores >= self.score_threshold]
        if output.has("pred_masks"):
            output.pred_masks = output.pred_masks.bool()
        if output.has("pred_mask_std"):
            # Detectron2 pastes masks into the image, and nothing else; a negative threshold keeps the values.
            pasted = paste_masks_in_image(output.pred_mask_std[:, 0], output.pred_boxes, (height, width), threshold=-1)
            output.pred_mask_std = pasted.float() / 255
        if not output.has("has_mask"):
            output.has_mask = torch.full((len(output),), output.has("pred_masks"))
        return output


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a picture, turned as its EXIF orientation says.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: the file cannot be opened, or is no picture.
    """
    try:
        return np.ascontiguousarray(utils.read_image(os.fspath(path), format="RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {_first_line(error)}") from None


def find_files(inputs: Sequence[str | os.PathLike], output: str | os.PathLike) -> list[tuple[Path, Path]]:
    """The files of some paths, each with a name for its picture that no other has.

    Args:
        inputs: files, or folders that are searched with what is below them; hidden files are passed over.
        output: the folder that is written to; what lies in it already is not taken as input.

    Returns:
        (file, name): the name relative to ``output``, ending in ``.jpg``.

    Raises:
        ValueError: a picture would be written over one of the files.
    """
    output = Path(output).resolve()
    found = {}  # resolved file -> (file, its name relative to what was given)
    for given in map(Path, inputs):
        files = sorted(p for p in given.rglob("*") if p.is_file()) if given.is_dir() else [given]
        for file in files:
            relative = file.relative_to(given) if given.is_dir() else Path(file.name)
            hidden = given.is_dir() and any(part.startswith(".") for part in relative.parts)
            inside_output = given.is_dir() and output in file.resolve().parents and output != given.resolve()
            if not hidden and not inside_output:
                found.setdefault(file.resolve(), (file, relative))
    taken, result = set(), []
    for file, relative in found.values():
        # Compared without case: some file systems do not tell a.jpg from A.jpg.
        candidates = [relative.with_suffix(".jpg"), relative.with_name(relative.name + ".jpg")]
        candidates += [relative.with_name(f"{relative.stem}_{i}.jpg") for i in range(2, len(found) + 3)]
        name = next(c for c in candidates if str(c).lower() not in taken)
        taken.add(str(name).lower())
        if output / name in found:
            raise ValueError(f"the picture of {file} would replace {output / name}, which is an input: change --output")
        result.append((file, name))
    return result


def to_record(instances: Instances, class_names: Sequence[str]) -> list[dict]:
    """Predictions of one picture for JSON.

    Returns:
        A dict each: ``class``, ``score``, ``bbox`` [x, y, w, h] in pixels, and ``segmentation``, an RLE with ``size``
        [H, W] and ``counts`` str; a class with boxes only has none. With uncertainty ``score_std`` and, where pixels
        have theirs, ``mask_std``: its mean over the predicted mask, None without a mask.
    """
    result = []
    for i, found in enumerate(instances_to_coco(instances, 0, range(len(class_names)))):
        record = {"class": class_names[found["category_id"]], "score": found["score"], "bbox": found["bbox"]}
        if "score_std" in found:
            record["score_std"] = found["score_std"]
        if instances.has("pred_mask_std"):
            inside = instances.pred_mask_std[i][instances.pred_masks[i]]
            record["mask_std"] = inside.mean().item() if len(inside) else None
        if "segmentation" in found:
            record["segmentation"] = {**found["segmentation"], "size": [int(n) for n in found["segmentation"]["size"]]}
        if all(map(math.isfinite, [found["score"], *found["bbox"]])):
            result.append(record)
    return result


def write_json(path: str | os.PathLike, content: dict | Iterable) -> None:
    """Write strict JSON; whoever reads the path sees the old file or the whole new one."""
    replace_text(path, json.dumps(content, allow_nan=False, ensure_ascii=False))


def trained_record(weights: str) -> ClassRecord:
    """The classes of a checkpoint; ValueError for a file that is none, or holds no classes."""
    try:
        record = checkpoint_record(weights)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{weights} is not a checkpoint of tools/train_net.py: {_first_line(error)}") from None
    if record is None:
        raise ValueError(
            f"{weights} holds no class names: expected a checkpoint of tools/train_net.py (model_*.pth), not "
            "backbone weights or another tool's file"
        )
    return record


def load_weights(model: torch.nn.Module, cfg: CfgNode) -> None:
    """``MODEL.WEIGHTS``, for evaluation; strictly: Detectron2's checkpointer only warns of weights that do not fit, and
    predicts with random ones.

    Args:
        model: of the config; changed in place.
        cfg: with its classes filled in.

    Raises:
        ClassMismatchError: a checkpoint of other classes.
        ValueError: of another box loss, whose outputs mean something else; or its weights are not the model's.
    """
    path = cfg.MODEL.WEIGHTS
    with PathManager.open(path, "rb") as f:
        stored = torch.load(f, map_location="cpu", weights_only=True)
    if "classes" in stored:
        record = get_record(cfg)
        record.check_box_loss(ClassRecord.from_state(stored["classes"]), path, cfg.MODEL.REG.BOX.LOSS)
        record.load_state_dict(stored["classes"])
    try:
        model.load_state_dict(stored["model"])
    except (KeyError, RuntimeError) as error:
        lines = str(error).strip().splitlines()
        what = (lines[1] if len(lines) > 1 else lines[0]).strip()
        raise ValueError(
            f"{path} does not fit the config ({what}): give the config.yaml that the training wrote beside it "
            "(--config-file). Under a MODEL.REG.BOX.LOSS that is not the training's own, a checkpoint must be of a run "
            "without UNCERTAINTY, REFINEMENT.LEARNED and PRIMAL_DUAL of MODEL.REG.BOX"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
