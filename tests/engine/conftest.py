"""A very small COCO data set on disk, and a configuration that trains on it in seconds."""

import json

import cv2
import numpy as np
import pytest

from ..models import TINY

SIZE = (96, 64)  # width, height
CATEGORIES = ((2, "sign"), (5, "pole"))


def write_split(folder, name, num_images, categories=CATEGORIES, seed=0):
    rng = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True)
    images, annotations = [], []
    for i in range(1, num_images + 1):
        picture = rng.integers(60, 120, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        images.append({"id": i, "file_name": f"{i}.png", "width": SIZE[0], "height": SIZE[1]})
        for k, (category, title) in enumerate(categories):
            x, y = 8 + 44 * k, int(rng.integers(5, 25))
            cv2.rectangle(picture, (x, y), (x + 30, y + 25), (0, 220, 0) if k else (0, 0, 220), -1)
            entry = {"id": len(annotations) + 1, "image_id": i, "category_id": category, "iscrowd": 0}
            entry |= {"bbox": [x, y, 30, 25], "area": 750}
            if title == "sign":
                entry["segmentation"] = [[x, y, x + 30, y, x + 30, y + 25, x, y + 25]]
            annotations.append(entry)
        cv2.imwrite(str(folder / name / f"{i}.png"), picture)
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": i, "name": n} for i, n in categories]
    (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Data, catalogue and config under tmp_path; returns (config file, options)."""
    data = tmp_path / "data"
    write_split(data, "train", 8)
    write_split(data, "val", 3, seed=1)
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(
        "tiny_train: {json: train.json, images: train}\ntiny_val: {json: val.json, images: val}\n"
        "other_val: {json: other.json, images: val}\n"
    )
    monkeypatch.setenv("REG_D2_DATASETS", str(data))
    options = [
        *TINY,
        *("DATASETS.CATALOG", str(catalog), "DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_val',)"),
        *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", 64, "DATALOADER.NUM_WORKERS", 0),
        *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 4, "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", 0),
        *("SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR"),
        *("SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.BASE_LR", 0.001),
        *("OUTPUT_DIR", str(tmp_path / "out")),
    ]
    return "configs/small-REG-R18-FPN.yaml", [str(x) for x in options]
