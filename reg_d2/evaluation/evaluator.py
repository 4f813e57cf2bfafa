"""The Detectron2 evaluator: collects predictions over all workers and has them matched and summarized."""

from __future__ import annotations

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from .coco import Evaluation, match_detections, summarize

logger = logging.getLogger(__name__)

PREDICTIONS_FILE = "coco_instances_results.json"


def instances_to_coco(instances: Instances, image_id: int, id_map: Sequence[int] | Mapping[int, int]) -> list[dict]:
    """Turn one image's predictions into COCO result dicts: box (x, y, w, h), score, and RLE where there is a mask.

    ``instances``: ``pred_boxes`` (N, 4) XYXY pixels, ``scores`` (N,) 0..1, ``pred_classes`` (N,) contiguous, and
    optionally ``pred_masks`` (N, H, W) bool of the full image and ``has_mask`` (N,) bool, false for box-only classes:
    those get no ``segmentation``. ``score_std`` (N,), where there is one, is written beside the score. ``id_map``:
    contiguous class -> category id. Raises ValueError for a class that the map lacks and for masks that are not of the
    full image.
    """
    instances = instances.to("cpu")
    boxes = instances.pred_boxes.tensor.tolist()
    classes = instances.pred_classes.tolist()
    known = id_map if isinstance(id_map, Mapping) else range(len(id_map))
    if unknown := sorted({c for c in classes if c not in known}):
        raise ValueError(
            f"image {image_id}: predicted classes {unknown}, but the data set has {len(id_map)}: was the model trained "
            "on another class list (MODEL.ROI_HEADS.NUM_CLASSES)?"
        )
    segmentations = _encode_masks(instances, image_id)
    spreads = instances.score_std.tolist() if instances.has("score_std") else [None] * len(instances)
    return [
        {
            "image_id": image_id,
            "category_id": id_map[c],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": score,
            **({} if spread is None else {"score_std": spread}),
            **({} if rle is None else {"segmentation": rle}),
        }
        for (x0, y0, x1, y1), c, score, spread, rle in zip(
            boxes, classes, instances.scores.tolist(), spreads, segmentations, strict=True
        )
    ]


class REGCOCOEvaluator(DatasetEvaluator):
    """COCO metrics with precision, recall and F1 (E15, E16) for Detectron2's ``inference_on_dataset``.

    ``evaluate`` returns what ``evaluate_detections`` does (nested, with None where there is no ground truth), on the
    main process; ``{}`` on the others. It also stays in ``self.results``, and the matches that it comes from in
    ``self.evaluation`` (None before); ``detectron2_metrics(evaluator.results)`` is the flat form that Detectron2's own
    printing and hooks want.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        *,
        tasks: Collection[str] | None = None,
        distributed: bool = True,
        train_counts: Mapping[str, int] | None = None,
    ):
        """Look the dataset up; its metadata needs ``json_file``, may have ``mask_classes`` (names of the classes with
        masks) and ``thing_dataset_id_to_contiguous_id`` (absent: ids are contiguous).

        ``output_dir``: where ``coco_instances_results.json`` goes; None: nowhere. ``tasks``: of "bbox", "segm", or
        neither, to write predictions only; None: boxes, and masks where the data set has classes with masks and the
        model predicts masks. ``distributed``: gather the predictions of all workers; False: each evaluates its own.
        ``train_counts``: as of ``evaluate_detections``.
        """
        metadata = MetadataCatalog.get(dataset_name)
        if not metadata.get("json_file"):
            raise ValueError(
                f"dataset {dataset_name!r} has no json_file in its metadata: evaluation needs a COCO file; register it "
                "through the catalogue (configs/datasets.yaml) or register_coco_instances"
            )
        self.results: dict[str, dict] = {}
        self.evaluation: Evaluation | None = None
        self._json_file = PathManager.get_local_path(metadata.json_file)
        self._mask_classes = metadata.get("mask_classes")
        self._id_map = {v: k for k, v in metadata.get("thing_dataset_id_to_contiguous_id", {}).items()}
        self._id_map = self._id_map or dict(enumerate(range(len(metadata.thing_classes))))
        self._output_dir, self._tasks, self._distributed = output_dir, tasks, distributed
        self._train_counts = train_counts
        self.reset()

    def reset(self) -> None:
        self._predictions: list[dict] = []
        self._saw_masks = False

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Keep the predictions of a batch; ``inputs`` need "image_id", ``outputs`` "instances"."""
        for given, output in zip(inputs, outputs, strict=True):
            instances = output["instances"]
            # The field is there with no detection, too: a mask model that finds nothing still has mask metrics.
            self._saw_masks |= instances.has("pred_masks")
            self._predictions += instances_to_coco(instances, given["image_id"], self._id_map)

    def evaluate(self) -> OrderedDict:
        predictions, saw_masks = self._predictions, self._saw_masks
        if self._distributed:
            comm.synchronize()
            predictions = list(chain.from_iterable(comm.gather(predictions, dst=0)))
            saw_masks = any(comm.gather(saw_masks, dst=0))
            if not comm.is_main_process():
                return OrderedDict()
        if self._output_dir:
            self._write_predictions(predictions)
        tasks = self._tasks
        if tasks is None:
            # An empty list says that no class has masks; None that the metadata does not say.
            may_have_masks = self._mask_classes is None or len(self._mask_classes) > 0
            tasks = ("bbox", "segm") if saw_masks and may_have_masks else ("bbox",)
        logger.info("Evaluating %d predictions on %s: %s", len(predictions), self._json_file, ", ".join(tasks))
        self.evaluation = match_detections(self._json_file, predictions, tasks=tasks, mask_classes=self._mask_classes)
        self.results = OrderedDict(summarize(self.evaluation, train_counts=self._train_counts))
        return self.results

    def _write_predictions(self, predictions: list[dict]) -> None:
        PathManager.mkdirs(self._output_dir)
        path = os.path.join(self._output_dir, PREDICTIONS_FILE)
        with PathManager.open(path, "w") as f:
            json.dump(predictions, f)
        logger.info("Wrote %d predictions to %s", len(predictions), path)


def _encode_masks(instances: Instances, image_id: int) -> list[dict | None]:
    """RLE (counts as str, which JSON can hold) or None per instance."""
    if not instances.has("pred_masks"):
        return [None] * len(instances)
    masks = instances.pred_masks
    if not isinstance(masks, torch.Tensor) or tuple(masks.shape[1:]) != tuple(instances.image_size):
        raise ValueError(
            f"image {image_id}: pred_masks is {tuple(getattr(masks, 'shape', ()))} {type(masks).__name__}, expected a "
            f"tensor (N, {instances.image_size[0]}, {instances.image_size[1]}): paste masks into the image first "
            "(detectron2.modeling.postprocessing.detector_postprocess)"
        )
    has_mask = instances.has_mask.tolist() if instances.has("has_mask") else [True] * len(instances)
    result: list[dict | None] = []
    # One at a time: all of them as bytes at once would be N x H x W.
    for mask, wanted in zip(masks, has_mask, strict=True):
        rle = mask_util.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) if wanted else None
        result.append(None if rle is None else {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")})
    return result
