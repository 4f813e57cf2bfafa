"""A small COCO data set with drawn images, and detections made from ground truth by known kinds of errors."""

import json

import cv2
import numpy as np
import pycocotools.mask as mask_util

from reg_d2.evaluation import match_detections
from reg_d2.report import Run, analyse

CLASSES = ("pavilion", "bus stop", "warning sign <b>&", "concrete_guardrail", "pole")
BOX_ONLY = ("pole",)
IMAGE = {"id": 1, "file_name": "1.jpg", "width": 200, "height": 100}
CATEGORIES = [{"id": 1, "name": "sign"}, {"id": 2, "name": "pole"}]


def make_data(folder, num_images=24, seed=0, size=(320, 240), classes=CLASSES):
    """Images and ``truth.json`` under a folder; returns the COCO dict. Every fifth image is empty."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    width, height = size
    images, annotations = [], []
    for i in range(1, num_images + 1):
        picture = cv2.resize(rng.integers(90, 180, (12, 16, 3), dtype=np.uint8), size, interpolation=cv2.INTER_CUBIC)
        images.append({"id": 10 * i, "file_name": f"{i}.jpg", "width": width, "height": height})
        for _ in range(0 if i % 5 == 0 else int(rng.integers(1, 5))):
            c = int(rng.choice(len(classes), p=_shares(len(classes))))
            w, h = (float(v) for v in rng.uniform(20, 90, 2))
            x, y = float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h))
            corners = (round(x), round(y)), (round(x + w), round(y + h))
            cv2.rectangle(picture, *corners, tuple(int(v) for v in rng.integers(0, 255, 3)), -1)
            entry = {"id": len(annotations) + 1, "image_id": 10 * i, "category_id": 3 * c + 1, "iscrowd": 0}
            entry |= {"bbox": [x, y, w, h], "area": w * h}
            if classes[c] not in BOX_ONLY:
                entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(entry)
        cv2.imwrite(str(folder / "images" / f"{i}.jpg"), picture)
    categories = [{"id": 3 * c + 1, "name": name} for c, name in enumerate(classes)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(truth))
    return truth


def _shares(num):
    shares = 1 / np.arange(1, num + 1)
    return shares / shares.sum()


def detections(truth, *, noise=0.06, missed=0.15, confused=0.08, false=0.6, seed=1, masks=True, std=False):
    """Detections from ground truth: moved by ``noise`` of their size, some missed, some of another class, and
    ``false`` an image on background."""
    rng = np.random.default_rng(seed)
    sizes = {im["id"]: (im["height"], im["width"]) for im in truth["images"]}
    ids = [c["id"] for c in truth["categories"]]
    found = []

    def add(image, category, box, score, with_mask):
        height, width = sizes[image]
        x0, y0 = max(box[0], 0), max(box[1], 0)
        x1, y1 = min(box[0] + box[2], width), min(box[1] + box[3], height)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        entry = {"image_id": image, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": float(score)}
        if with_mask:
            polygon = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            rle = mask_util.merge(mask_util.frPyObjects(polygon, height, width))
            entry["segmentation"] = {"size": [height, width], "counts": rle["counts"].decode()}
        if std:
            entry["score_std"] = float(0.4 * np.sqrt(score * (1 - score)) + rng.uniform(0, 0.05))
        found.append(entry)

    for a in truth["annotations"]:
        if rng.random() < missed:
            continue
        x, y, w, h = a["bbox"]
        dx, dy, dw, dh = rng.normal(0, noise, 4)
        category = int(rng.choice(ids)) if rng.random() < confused else a["category_id"]
        box = [x + dx * w, y + dy * h, w * np.exp(dw), h * np.exp(dh)]
        add(a["image_id"], category, box, rng.beta(6, 2), masks and "segmentation" in a)
    for image in sizes:
        for _ in range(rng.poisson(false)):
            height, width = sizes[image]
            box = [rng.uniform(0, width * 0.7), rng.uniform(0, height * 0.7), *rng.uniform(20, 90, 2)]
            add(image, int(rng.choice(ids)), box, rng.beta(2, 4), masks)
    return found


def truth_of(*objects):
    """Ground truth of one image: (category id, box) each."""
    annotations = [
        {"id": i, "image_id": 1, "category_id": c, "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0}
        for i, (c, box) in enumerate(objects, start=1)
    ]
    return {"images": [IMAGE], "annotations": annotations, "categories": CATEGORIES}


def run_of(truth, *found):
    """An analysed run at confidence 0.5 on one image: (category id, box, score) each."""
    results = [{"image_id": 1, "category_id": c, "bbox": list(box), "score": score} for c, box, score in found]
    run = Run("run", match_detections(truth, results, tasks=("bbox",)))
    analyse([run], resamples=0)
    run.results["bbox"]["confidence"] = 0.5
    return run
