"""What a highway split holds: classes, counts, and which image gets which objects (E9, E11)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

HIGHWAY_CLASSES = (
    "pavilion",
    "pedestrian bridge",
    "information sign",
    "single-arm pole",
    "bus stop",
    "warning sign",
    "concrete guardrail",
)
PAVILION, BRIDGE, INFO_SIGN, POLE, BUS_STOP, WARNING_SIGN, GUARDRAIL = range(1, 8)

# E9: the paper's annotation counts, detection and segmentation.
DETECTION_COUNTS = dict(zip(HIGHWAY_CLASSES, (200, 100, 700, 1500, 50, 800, 300), strict=True))
SEGMENTATION_COUNTS = dict(zip(HIGHWAY_CLASSES, (100, 50, 500, 0, 0, 400, 150), strict=True))

# How many objects of a class (and of all classes) still look natural in one picture.
MAX_PER_IMAGE = {PAVILION: 2, BRIDGE: 1, INFO_SIGN: 4, POLE: 6, BUS_STOP: 1, WARNING_SIGN: 4, GUARDRAIL: 2}
MAX_OBJECTS = 12
EMPTY_SHARE = 0.03
VAL_FLOOR = 40
SPLITS = ("train", "val")


def scaled_counts(scale: float) -> tuple[dict[str, int], dict[str, int]]:
    """The paper's detection and segmentation counts times `scale` (> 0), rounded, at least 1 where not 0."""
    boxes = {name: max(1, round(n * scale)) for name, n in DETECTION_COUNTS.items()}
    masks = {name: min(boxes[name], max(1, round(n * scale))) if n else 0 for name, n in SEGMENTATION_COUNTS.items()}
    return boxes, masks


def validation_counts(
    boxes: Mapping[str, int], train_images: int, val_images: int, floor: int = VAL_FLOOR
) -> dict[str, int]:
    """The training split's density on `val_images` pictures, with a floor of objects a class.

    The floor keeps a tail class's AP from being noise; it sinks to a third of the pictures when those are few.
    """
    floor = min(floor, max(1, val_images // 3))
    return {name: max(floor, round(n * val_images / train_images)) for name, n in boxes.items()}


def check_counts(boxes: Mapping[str, int], masks: Mapping[str, int]) -> None:
    """Raise ValueError where a name is unknown, a count is negative, or there are more masks than boxes."""
    for what, counts in (("counts", boxes), ("mask_counts", masks)):
        unknown = sorted(set(counts) - set(HIGHWAY_CLASSES))
        if unknown:
            raise ValueError(f"{what}: unknown class {unknown[0]!r}; the classes are {', '.join(HIGHWAY_CLASSES)}")
        bad = [name for name, n in counts.items() if int(n) != n or n < 0]
        if bad:
            raise ValueError(f"{what}[{bad[0]!r}] is {counts[bad[0]]}; expected a whole number >= 0")
    for name, n in masks.items():
        if n > boxes.get(name, 0):
            raise ValueError(f"mask_counts[{name!r}] is {n}, more than its {boxes.get(name, 0)} objects")


def assign_objects(
    boxes: Mapping[str, int],
    masks: Mapping[str, int],
    images: int,
    rng: np.random.Generator,
    *,
    what: str,
    empty_share: float = EMPTY_SHARE,
) -> list[list[tuple[int, bool]]]:
    """Spread the objects of a split over its images.

    Args:
        boxes, masks: objects, and objects with a mask, by class name.
        images: number of pictures.
        rng: decides everything.
        what: the split's name, for the error.
        empty_share: part of the pictures that stays without objects, in [0, 1); more do where there are fewer objects
            than other pictures.

    Returns:
        one list of (category id 1..7, has a mask) per image; the counts over all images are exact.
    """
    empty = round(images * empty_share)
    filled = images - (max(1, empty) if images >= 10 and empty_share else empty)
    open_images = rng.permutation(images)[:filled]
    total = np.zeros(images, np.int64)
    plan: list[list[tuple[int, bool]]] = [[] for _ in range(images)]
    left = sum(int(n) for n in boxes.values())
    # Rare, large classes first: they have the fewest places.
    for category in (BRIDGE, BUS_STOP, PAVILION, GUARDRAIL, INFO_SIGN, WARNING_SIGN, POLE):
        name = HIGHWAY_CLASSES[category - 1]
        count = int(boxes.get(name, 0))
        with_mask = np.zeros(count, bool)
        with_mask[: int(masks.get(name, 0))] = True
        rng.shuffle(with_mask)
        mine = np.zeros(images, np.int64)
        done = 0
        while done < count:
            # Poles come in rows; a second sign or barrier is common, too.
            group = int(min(rng.integers(1, 5) if category == POLE else rng.choice([1, 2], p=[0.8, 0.2]), count - done))
            # As soon as there are no more objects than empty images, each goes to one of those.
            bare = total[open_images] == 0
            scarce = left <= int(bare.sum())
            group = 1 if scarce else group
            while group:
                room = (mine[open_images] + group <= MAX_PER_IMAGE[category]) & (
                    total[open_images] + group <= MAX_OBJECTS
                )
                if room.any():
                    break
                group -= 1
            if not group:
                raise ValueError(
                    f"{what}: {count} x {name} and the other classes do not fit in {images} images, "
                    f"{images - filled} of them to be empty (one takes at most {MAX_PER_IMAGE[category]} of it and "
                    f"{MAX_OBJECTS} in all); ask for more images or fewer objects"
                )
            places = open_images[bare if scarce and bare.any() else room]
            weight = np.exp(-0.45 * total[places])
            image = int(rng.choice(places, p=weight / weight.sum()))
            plan[image].extend((category, bool(m)) for m in with_mask[done : done + group])
            mine[image] += group
            total[image] += group
            done += group
            left -= group
    return plan


def imbalance_ratio(counts: Mapping[str, int]) -> float:
    """E11: rho = max n_c / min n_c over the classes; inf where a class has no object."""
    numbers = list(counts.values())
    return max(numbers) / min(numbers) if min(numbers) else float("inf")
