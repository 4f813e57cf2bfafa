"""Random COCO data for the evaluation tests: category-id gaps, crowds, ties, empty images, absent classes."""

import numpy as np
import pycocotools.mask as mask_util

SIZE = (150, 200)
CATEGORIES = {2: "pavilion", 3: "sign", 7: "bus stop", 11: "rail", 40: "absent"}
BOX = [20.0, 30.0, 40.0, 50.0]


def rle(mask):
    encoded = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(SIZE), "counts": encoded["counts"].decode("ascii")}


def blob(box):
    """An ellipse in the box, as a mask of the full image."""
    x, y, w, h = box
    yy, xx = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return ((xx - x - w / 2) / (w / 2)) ** 2 + ((yy - y - h / 2) / (h / 2)) ** 2 <= 1


def scene():
    """One object and a detection that is equal to it."""
    image = {"id": 5, "height": SIZE[0], "width": SIZE[1]}
    ann = {"id": 1, "image_id": 5, "category_id": 3, "bbox": BOX, "area": 2000.0, "segmentation": rle(blob(BOX))}
    truth = {
        "images": [image],
        "annotations": [ann],
        "categories": [{"id": i, "name": n} for i, n in CATEGORIES.items()],
    }
    det = {"image_id": 5, "category_id": 3, "score": 0.5, "bbox": BOX, "segmentation": rle(blob(BOX))}
    return truth, det


def random_box(rng):
    w, h = rng.uniform(8, 150), rng.uniform(8, 130)
    return [rng.uniform(0, SIZE[1] - w), rng.uniform(0, SIZE[0] - h), w, h]


def random_scene(seed, *, num_images=24, box_only_objects=False):
    """Ground truth and detections: no object of class 40, no mask of class 7, gaps in ids, ties in scores and IoUs."""
    rng = np.random.default_rng(seed)
    images = [{"id": 5 + 3 * i, "height": SIZE[0], "width": SIZE[1]} for i in range(num_images)]
    annotations, detections = [], []
    for image in images:
        for _ in range(rng.integers(0, 6)):
            box, category = random_box(rng), int(rng.choice([2, 3, 7, 11]))
            mask = blob(box)
            ann = {"image_id": image["id"], "category_id": category, "bbox": box, "area": float(mask.sum())}
            ann |= {"id": len(annotations) + 1, "iscrowd": int(rng.random() < 0.12)}
            if category != 7 and not (box_only_objects and rng.random() < 0.3):
                ann["segmentation"] = rle(mask)
            annotations.append(ann)
            if rng.random() < 0.1:  # the same object twice: equal IoUs
                annotations.append(ann | {"id": len(annotations) + 1, "iscrowd": int(rng.random() < 0.5)})
            for _ in range(rng.integers(0, 4)):
                near = (np.array(box) + rng.normal(0, 5, 4)).clip(1, 150).tolist()
                detections.append(_detection(image, category if rng.random() < 0.8 else 3, near, rng))
        for _ in range(rng.integers(0, 3)):
            detections.append(_detection(image, int(rng.choice(list(CATEGORIES))), random_box(rng), rng))
    order = rng.permutation(len(detections))
    categories = [{"id": i, "name": n} for i, n in CATEGORIES.items()]
    truth = {"images": images, "annotations": annotations, "categories": categories[::-1]}
    return truth, [detections[i] for i in order]


def _detection(image, category, box, rng):
    det = {"image_id": image["id"], "category_id": category, "bbox": box}
    det["score"] = float(round(rng.uniform(0.01, 1), 1 if rng.random() < 0.5 else 6))
    return det if category == 7 else det | {"segmentation": rle(blob(box))}
