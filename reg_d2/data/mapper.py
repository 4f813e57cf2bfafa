"""From a dataset dict to what the model takes; objects may come with or without a mask."""

import logging
import multiprocessing
import struct
from collections.abc import Callable

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.structures import BitMasks, Instances, PolygonMasks
from detectron2.structures.masks import polygons_to_bitmask
from PIL import Image

from .. import compat

logger = logging.getLogger(__name__)

# What Pillow raises on a file that is missing, broken off, no picture, or too large, and Detectron2 on one that is
# not of the size that the data set says.
_READ_ERRORS = (OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError, utils.SizeMismatchError)


class BadImagesError(RuntimeError):
    """More images than ``DATALOADER.MAX_BAD_IMAGES`` could not be read; the message names the last one."""


class SkipBadImages:
    """A mapper that passes over images that cannot be read, and counts them together with all data workers.

    For such an image it returns None, at which Detectron2's ``MapDataset`` takes another one.
    """

    def __init__(self, mapper: Callable[[dict], dict], limit: int):
        """
        Args:
            mapper: from a dataset dict, with ``file_name``, to what the model takes.
            limit: so many different images may be bad, >= 0; one more stops the run.
        """
        if limit < 0:
            raise ValueError(f"DATALOADER.MAX_BAD_IMAGES is {limit}; expected 0 or more")
        compat.bridge_map_dataset()
        self._mapper, self._limit = mapper, limit
        self._seen: set[str] = set()
        self._count = multiprocessing.Value("l", 0)  # shared by the workers, which are forked after this

    @property
    def count(self) -> int:
        """Bad images met so far, in all workers; one that two workers met counts twice."""
        return self._count.value

    def __call__(self, dataset_dict: dict) -> dict | None:
        """The mapped image, or None where it cannot be read.

        Raises:
            BadImagesError: with this one they are more than the limit.
        """
        try:
            return self._mapper(dataset_dict)
        except _READ_ERRORS as error:
            return self._skip(str(dataset_dict.get("file_name")), error)

    def _skip(self, name: str, error: Exception) -> None:
        if name in self._seen:
            return
        self._seen.add(name)
        with self._count.get_lock():
            self._count.value += 1
            count = self._count.value
        logger.warning(f"Skipped image {count} of at most {self._limit}: {name} cannot be read: {error}")
        if count > self._limit:
            raise BadImagesError(
                f"{count} images could not be read, the last one {name} ({type(error).__name__}: {error}). "
                f"DATALOADER.MAX_BAD_IMAGES allows {self._limit}. Find them all and write a file without them: "
                "python tools/check_dataset.py DATASET --fix OUT.json"
            )


class REGDatasetMapper(DatasetMapper):
    """Detectron2's mapper for images whose objects have a polygon, an RLE, or only a box.

    Training instances get ``gt_masks`` and ``gt_has_mask``, (M,) bool. An object without a mask has an empty one
    and ``gt_has_mask`` False. An image whose masks are all polygons keeps polygons (exact under augmentation);
    with an RLE among them all become bitmaps, whatever ``INPUT.MASK_FORMAT`` says.
    """

    def _transform_annotations(self, dataset_dict, transforms, image_shape):
        annotations = []
        for annotation in dataset_dict.pop("annotations"):
            if annotation.get("iscrowd", 0):
                continue
            if not self.use_instance_mask or not annotation.get("segmentation"):
                annotation.pop("segmentation", None)
            annotations.append(utils.transform_instance_annotations(annotation, transforms, image_shape))
        masks = [annotation.pop("segmentation", None) for annotation in annotations]
        instances = utils.annotations_to_instances(annotations, image_shape)
        if self.use_instance_mask and annotations:
            instances.gt_masks = _pack(masks, image_shape, self.instance_mask_format)
            annotated = torch.tensor([mask is not None for mask in masks])
            # A mask that was cropped away, or shrank below a pixel, is nothing to learn from.
            instances.gt_has_mask = annotated & instances.gt_masks.nonempty()
            if self.recompute_boxes:
                instances = _tighten(instances[~annotated | instances.gt_has_mask])
        # By box alone: an empty mask is what a box-only object is meant to have.
        dataset_dict["instances"] = utils.filter_empty_instances(instances, by_mask=False)


def _pack(masks: list, image_shape: tuple[int, int], mask_format: str) -> PolygonMasks | BitMasks:
    """Masks of one image: lists of polygons, (H, W) arrays, or None for none."""
    if mask_format == "polygon" and not any(isinstance(mask, np.ndarray) for mask in masks):
        return PolygonMasks([mask or [] for mask in masks])
    bitmaps = np.zeros((len(masks), *image_shape), dtype=bool)
    for bitmap, mask in zip(bitmaps, masks, strict=True):
        if isinstance(mask, np.ndarray):
            bitmap[:] = mask
        elif mask is not None:
            bitmap[:] = polygons_to_bitmask(mask, *image_shape)
    return BitMasks(torch.from_numpy(bitmaps))


def _tighten(instances: Instances) -> Instances:
    """After cropping a box may be looser than what is left of its object: take it from the mask, where there is one."""
    boxes = instances.gt_boxes.tensor
    tight = instances.gt_masks.get_bounding_boxes().tensor.to(boxes)
    instances.gt_boxes.tensor = torch.where(instances.gt_has_mask[:, None], tight, boxes)
    return instances
