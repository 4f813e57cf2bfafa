"""A small, sound COCO file to break, and its pictures."""

import copy
import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from reg_d2.data.checks import check_content

WIDTH, HEIGHT = 64, 48
SQUARE = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]


def rle(x1, y1, x2, y2, width=WIDTH, height=HEIGHT):
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[y1:y2, x1:x2] = 1
    run = mask_util.encode(np.asfortranarray(mask))
    return {"size": [height, width], "counts": run["counts"].decode()}


def annotation(number, **values):
    base = {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 20, 20], "area": 400}
    return {**base, **values}


SOUND = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in (1, 2)],
    "categories": [{"id": 1, "name": "sign"}, {"id": 2, "name": "pole"}],
    "annotations": [
        annotation(1, segmentation=SQUARE),
        annotation(2, category_id=2, bbox=[40, 5, 6, 40], area=240, segmentation=rle(40, 5, 46, 45)),
        annotation(3, image_id=2, bbox=[0, 0, 64, 48], area=3072),
    ],
}


@pytest.fixture
def sound():
    return copy.deepcopy(SOUND)


@pytest.fixture
def with_object(sound):
    """From fields of a fourth annotation to the check of the file with it; None as a value removes the field."""

    def add(**values):
        entry = annotation(4, **{"bbox": [20, 8, 20, 20], **values})
        sound["annotations"].append({k: v for k, v in entry.items() if v is not None})
        return check_content(sound, "test")

    return add


def picture(seed, width=WIDTH, height=HEIGHT):
    """A picture that is unlike that of any other seed: coarse blocks of random brightness."""
    blocks = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


@pytest.fixture
def on_disk(tmp_path, sound):
    """(COCO file, image folder) of the sound file."""
    folder = tmp_path / "images"
    folder.mkdir()
    for record in sound["images"]:
        picture(record["id"]).save(folder / record["file_name"])
    path = tmp_path / "data.json"
    path.write_text(json.dumps(sound))
    return path, folder
