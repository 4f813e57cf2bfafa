"""The mapper: polygons, RLE, and objects with a box only, in one image."""

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import BitMasks, BoxMode, PolygonMasks

from reg_d2.data.mapper import REGDatasetMapper

from ..models import tiny_config

POLYGON = [[10.0, 10.0, 40.0, 10.0, 40.0, 30.0, 10.0, 30.0]]


def rle():
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[5:25, 20:50] = 1
    return mask_util.encode(np.asfortranarray(mask))


def item(tmp_path, *segmentations, crowd=()):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((48, 64, 3), 120, np.uint8))
    annotations = [
        {
            "bbox": [10.0, 10.0, 30.0, 20.0],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": i % 3,
            "iscrowd": int(i in crowd),
        }
        for i in range(len(segmentations))
    ]
    for annotation, segmentation in zip(annotations, segmentations, strict=True):
        if segmentation is not None:
            annotation["segmentation"] = segmentation
    return {"file_name": str(path), "image_id": 1, "height": 48, "width": 64, "annotations": annotations}


def mapped(entry, *options):
    cfg = tiny_config("INPUT.MIN_SIZE_TRAIN", [96], "INPUT.RANDOM_FLIP", "none", *options)
    return REGDatasetMapper(cfg, is_train=True)(entry)["instances"]


def test_polygons_stay_polygons_and_a_box_only_object_has_an_empty_one(tmp_path):
    x = mapped(item(tmp_path, POLYGON, None, POLYGON))
    assert isinstance(x.gt_masks, PolygonMasks)
    assert x.gt_has_mask.tolist() == [True, False, True]
    assert x.gt_masks.polygons[1] == []
    crop = x.gt_masks.crop_and_resize(x.gt_boxes.tensor, 14)
    assert crop[0].all()
    assert not crop[1].any()


def test_polygon_and_rle_in_one_image(tmp_path):
    x = mapped(item(tmp_path, POLYGON, rle(), None))
    assert isinstance(x.gt_masks, BitMasks)
    assert x.gt_has_mask.tolist() == [True, True, False]
    area = x.gt_masks.tensor.flatten(1).sum(1)
    # Twice the size: four times the pixels.
    assert area[0].item() == pytest.approx(4 * 600, rel=0.05)
    assert area[1].item() == pytest.approx(4 * 600, rel=0.05)
    assert area[2].item() == 0


def test_only_boxes_crowds_and_empty_images(tmp_path):
    x = mapped(item(tmp_path, None, None))
    assert len(x) == 2
    assert not x.gt_has_mask.any()
    assert len(mapped(item(tmp_path, POLYGON, POLYGON, crowd=(0,)))) == 1
    assert len(mapped(item(tmp_path))) == 0


def test_cropping_tightens_boxes_with_a_mask_and_leaves_the_others(tmp_path):
    loose = item(tmp_path, POLYGON, None)
    for annotation in loose["annotations"]:
        annotation["bbox"] = [5.0, 5.0, 50.0, 40.0]
    crop = ["INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [48, 64]]
    x = mapped(loose, *crop)
    torch.testing.assert_close(x.gt_boxes.tensor[0], torch.tensor([20.0, 20.0, 80.0, 60.0]))
    torch.testing.assert_close(x.gt_boxes.tensor[1], torch.tensor([10.0, 10.0, 110.0, 90.0]))


def test_without_a_mask_head_no_masks_are_made(tmp_path):
    x = mapped(item(tmp_path, POLYGON, None), "MODEL.MASK_ON", False)
    assert not x.has("gt_masks")
    assert len(x) == 2
