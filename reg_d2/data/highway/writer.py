"""Write the highway set: JPEG pictures and plain COCO files, the same bytes for the same parameters."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from . import plan
from .masks import encode, tight_box
from .parameters import GENERATOR_VERSION, parameters_record
from .scene import render_scene

_PICTURE = re.compile(r"\d{6}\.jpg")


def make_highway(
    output: str | os.PathLike,
    *,
    train_images: int = 1000,
    val_images: int = 200,
    size: tuple[int, int] = (640, 360),
    scale: float = 1.0,
    difficulty: float = 1.0,
    counts: Mapping[str, int] | None = None,
    mask_counts: Mapping[str, int] | None = None,
    val_counts: Mapping[str, int] | None = None,
    val_floor: int = plan.VAL_FLOOR,
    empty_share: float = plan.EMPTY_SHARE,
    seed: int = 0,
    workers: int | None = None,
    quality: int = 90,
    overwrite: bool = False,
    progress: bool = False,
) -> dict:
    """Make the highway set under `output`, or leave it alone where it is already there, complete and the same.

    Args:
        output: folder; gets train/*.jpg, val/*.jpg, instances_train.json, instances_val.json.
        train_images, val_images: pictures per split, >= 1.
        size: (width, height) in pixels, 120..4096 each.
        scale: times the paper's counts (E9) for the training split, > 0; rounded, at least 1 a class.
        difficulty: 0..1: how much of what the package lists as hard there is; 1 is the benchmark, less is for demos.
        counts, mask_counts: objects, and objects with a mask, of the training split by class name, in place of `scale`
            (`mask_counts` alone is not accepted; `counts` alone keeps the paper's share of masks).
        val_counts: objects of the validation split by class name; otherwise `plan.validation_counts`.
        val_floor: least number of objects of a class in the validation split, where `val_counts` is not given, >= 1.
        empty_share: part of the pictures of both splits that is without objects, in [0, 1).
        seed: whole number >= 0.
        workers: processes; default: the CPUs this process may use. The result does not depend on it.
        quality: JPEG quality 1..100.
        overwrite: replace a set that was made with other parameters.
        progress: show a progress bar.

    Returns:
        {"created": bool, "train" / "val": {"json": Path, "images": Path, "num_images": int,
         "counts": {class: n}, "mask_counts": {class: n}, "imbalance_ratio": E11 (float)}}

    Raises:
        ValueError: a parameter is out of range, or the objects do not fit in the images.
        FileExistsError: `output` holds a set made with other parameters and `overwrite` is False.
    """
    record = parameters_record(
        train_images=train_images,
        val_images=val_images,
        size=size,
        scale=scale,
        difficulty=difficulty,
        counts=counts,
        mask_counts=mask_counts,
        val_counts=val_counts,
        val_floor=val_floor,
        empty_share=empty_share,
        seed=seed,
        quality=quality,
    )
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; expected 1 or more")
    output = Path(output)
    state, found = _inspect(output, record)
    if state == "same":
        return {"created": False, **{split: _summary(output, split, record) for split in plan.SPLITS}}
    if state == "other" and not overwrite:
        raise FileExistsError(
            f"{output} holds a highway set made with other parameters ({_difference(found, record)}); "
            "choose another output folder or ask to overwrite it"
        )
    jobs = {split: _jobs(split, record) for split in plan.SPLITS}  # fails before anything is touched
    _clear(output)
    for split in plan.SPLITS:
        (output / split).mkdir(parents=True, exist_ok=True)
    todo = [(split, index, objects) for split in plan.SPLITS for index, objects in enumerate(jobs[split])]
    work = partial(_make_picture, output=str(output), record=record)
    results = _run(work, todo, workers or _cpus(), progress)
    # The annotation files come last, and each at once: a set without both of them is not a set.
    for split in reversed(plan.SPLITS):
        pictures = [r for job, r in zip(todo, results, strict=True) if job[0] == split]
        _write_json(output / f"instances_{split}.json", _coco(split, pictures, record))
    return {"created": True, **{split: _summary(output, split, record) for split in plan.SPLITS}}


def _inspect(output: Path, record: dict) -> tuple[str, dict | None]:
    """('none' | 'other' | 'same', the record found): what is in the folder; an unfinished set is 'none'."""
    found = None
    for split in plan.SPLITS:
        path = output / f"instances_{split}.json"
        if not path.is_file():
            return "none", None
        try:
            found = json.loads(path.read_text())["info"]["parameters"]
        except (ValueError, KeyError, TypeError) as error:
            raise FileExistsError(
                f"{path} is not a file of this generator; choose another output folder or move it away"
            ) from error
        if found != record:
            return "other", found
        names = {p.name for p in (output / split).glob("*.jpg")}
        if not names >= {_name(i) for i in range(record["images"][split])}:
            return "none", found
    return "same", found


def _difference(found: dict, record: dict) -> str:
    keys = [k for k in {**record, **found} if found.get(k) != record.get(k)]
    return ", ".join(f"{k}: there {found.get(k)}, asked {record.get(k)}" for k in keys[:3])


def _clear(output: Path) -> None:
    """Remove a former set: the annotation files first, then its pictures; nothing else."""
    for split in plan.SPLITS:
        (output / f"instances_{split}.json").unlink(missing_ok=True)
    for split in plan.SPLITS:
        for path in (output / split).glob("*.jpg"):
            if _PICTURE.fullmatch(path.name):
                path.unlink()


def _jobs(split: str, record: dict) -> list[list[tuple[int, bool]]]:
    rng = np.random.default_rng([record["seed"], plan.SPLITS.index(split)])
    return plan.assign_objects(
        record["counts"][split],
        record["mask_counts"][split],
        record["images"][split],
        rng,
        what=split,
        empty_share=record.get("empty_share", plan.EMPTY_SHARE),
    )


def _name(index: int) -> str:
    return f"{index:06d}.jpg"


def _make_picture(job: tuple, *, output: str, record: dict) -> list[dict]:
    """Draw and save one picture; its annotations without ids."""
    split, index, objects = job
    size = (record["width"], record["height"])
    seed = (record["seed"], plan.SPLITS.index(split), index)
    scene = render_scene([category for category, _ in objects], size, seed, record["difficulty"])
    done, data = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, record["quality"]])
    if not done:
        raise RuntimeError(f"OpenCV could not encode picture {index} of {split}")
    Path(output, split, _name(index)).write_bytes(data.tobytes())
    annotations = []
    for label, (category, with_mask) in enumerate(objects, 1):
        mask = scene.ids == label
        box = tight_box(mask)
        note = {"category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        if with_mask:
            note |= {"segmentation": encode(mask), "area": float(np.count_nonzero(mask))}
        annotations.append(note)
    return annotations


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business


def _run(work, todo: list, workers: int, progress: bool) -> list:
    """Run the jobs in order of `todo`, in this process or in several."""
    bar = partial(tqdm, total=len(todo), desc="highway", unit="img", disable=not progress)
    threads = cv2.getNumThreads()
    # One thread each; also, a fork of OpenCV's running thread pool would hang.
    cv2.setNumThreads(0)
    try:
        if workers == 1:
            return [work(job) for job in bar(todo)]
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
        with context.Pool(min(workers, len(todo)), initializer=_start_worker) as pool:
            return list(bar(pool.imap(work, todo, chunksize=4)))
    finally:
        cv2.setNumThreads(threads)


def _coco(split: str, pictures: list[list[dict]], record: dict) -> dict:
    images, annotations = [], []
    for index, notes in enumerate(pictures):
        images.append(
            {"id": index + 1, "file_name": _name(index), "width": record["width"], "height": record["height"]}
        )
        for note in notes:
            annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **note})
    info = {
        "description": f"made highway scenes, {split} split",
        "version": str(GENERATOR_VERSION),
        "parameters": record,
    }
    categories = [
        {"id": i, "name": name, "supercategory": "road asset"} for i, name in enumerate(plan.HIGHWAY_CLASSES, 1)
    ]
    return {"info": info, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def _write_json(path: Path, content: dict) -> None:
    partial_path = path.with_suffix(".json.partial")
    partial_path.write_text(json.dumps(content))
    os.replace(partial_path, path)


def _summary(output: Path, split: str, record: dict) -> dict:
    return {
        "json": output / f"instances_{split}.json",
        "images": output / split,
        "num_images": record["images"][split],
        "counts": record["counts"][split],
        "mask_counts": record["mask_counts"][split],
        "imbalance_ratio": plan.imbalance_ratio(record["counts"][split]),
    }
