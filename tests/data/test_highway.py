"""The made highway set: exact counts, exact masks, the same bytes every time, never half a set."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from reg_d2.data.highway import (
    DETECTION_COUNTS,
    HIGHWAY_CLASSES,
    SEGMENTATION_COUNTS,
    encode,
    make_highway,
    plan,
    render_scene,
    scene,
    writer,
)
from reg_d2.data.highway.mesh import paint, stamp

TOOL = Path(__file__).resolve().parents[2] / "tools" / "make_highway.py"
SMALL = dict(train_images=14, val_images=5, size=(256, 160), scale=0.012, seed=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    output = tmp_path_factory.mktemp("highway")
    return output, make_highway(output, workers=2, **SMALL)


def _digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _counts(data: dict, masks: bool = False) -> dict[str, int]:
    found = Counter(a["category_id"] for a in data["annotations"] if not masks or "segmentation" in a)
    return {name: found[i] for i, name in enumerate(HIGHWAY_CLASSES, 1)}


def test_the_papers_counts():
    assert tuple(DETECTION_COUNTS) == HIGHWAY_CLASSES
    assert list(DETECTION_COUNTS.values()) == [200, 100, 700, 1500, 50, 800, 300]
    assert list(SEGMENTATION_COUNTS.values()) == [100, 50, 500, 0, 0, 400, 150]
    assert plan.scaled_counts(1.0) == (DETECTION_COUNTS, SEGMENTATION_COUNTS)
    assert plan.imbalance_ratio(DETECTION_COUNTS) == 30.0


@pytest.mark.parametrize("images", [500, 1000, 3000])
def test_full_plan_is_exact_and_within_the_limits_of_a_picture(images):
    objects = plan.assign_objects(DETECTION_COUNTS, SEGMENTATION_COUNTS, images, np.random.default_rng(0), what="train")
    boxes, masks = Counter(), Counter()
    for one in objects:
        here = Counter(category for category, _ in one)
        assert all(n <= plan.MAX_PER_IMAGE[c] for c, n in here.items()) and len(one) <= plan.MAX_OBJECTS
        boxes += here
        masks += Counter(category for category, with_mask in one if with_mask)
    assert {name: boxes[i] for i, name in enumerate(HIGHWAY_CLASSES, 1)} == DETECTION_COUNTS
    assert {name: masks[i] for i, name in enumerate(HIGHWAY_CLASSES, 1)} == SEGMENTATION_COUNTS
    assert 0.01 * images < sum(not one for one in objects) <= 0.1 * images  # a few percent


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_a_share_of_the_pictures_is_without_objects(share):
    boxes, masks = plan.scaled_counts(0.4)
    rng = np.random.default_rng(0)
    objects = plan.assign_objects(boxes, masks, 1000, rng, what="train", empty_share=share)
    assert 1000 * share <= sum(not one for one in objects) <= 1000 * share + 30, "chance leaves a few more out"
    assert sum(len(one) for one in objects) == sum(boxes.values())


def test_another_share_of_pictures_without_objects_is_another_set(tmp_path):
    few = {"train_images": 10, "val_images": 4, "size": (160, 120), "scale": 0.001, "val_floor": 1, "workers": 1}
    made = make_highway(tmp_path, empty_share=0.5, **few)
    data = json.loads(made["train"]["json"].read_text())
    assert len({a["image_id"] for a in data["annotations"]}) <= 5
    assert not make_highway(tmp_path, empty_share=0.5, **few)["created"]
    with pytest.raises(FileExistsError, match=r"empty_share: there 0\.5, asked None"):
        make_highway(tmp_path, **few)
    with pytest.raises(ValueError, match=r"empty_share is 1\.0; expected a number in \[0, 1\)"):
        make_highway(tmp_path, empty_share=1.0, **few)


def test_scaled_counts_keep_every_class_and_masks_below_boxes():
    for scale in (0.001, 0.2, 0.37, 2.0):
        boxes, masks = plan.scaled_counts(scale)
        assert min(boxes.values()) >= 1
        assert all(masks[n] <= boxes[n] for n in boxes)
        assert masks["bus stop"] == masks["single-arm pole"] == 0
    assert plan.scaled_counts(0.2)[0]["bus stop"] == 10


def test_validation_has_as_many_of_a_rare_class_as_is_asked_for():
    boxes, _ = plan.scaled_counts(0.8)
    counts = plan.validation_counts(boxes, 800, 400, 100)
    assert counts["bus stop"] == counts["pedestrian bridge"] == 100, "by density there would be 20 and 40"
    assert counts["single-arm pole"] == 600
    assert min(plan.validation_counts(boxes, 800, 90, 100).values()) == 30, "a third of few pictures"


def test_written_counts_and_masks_are_the_planned_ones(made):
    output, report = made
    for split in ("train", "val"):
        data = json.loads((output / f"instances_{split}.json").read_text())
        assert [c["name"] for c in data["categories"]] == list(HIGHWAY_CLASSES)
        assert [c["id"] for c in data["categories"]] == list(range(1, 8))
        assert _counts(data) == report[split]["counts"]
        assert _counts(data, masks=True) == report[split]["mask_counts"]
        assert len(data["images"]) == SMALL[f"{split}_images"]
        assert len({a["id"] for a in data["annotations"]}) == len(data["annotations"])
    boxes, masks = plan.scaled_counts(SMALL["scale"])
    assert report["train"]["counts"] == boxes and report["train"]["mask_counts"] == masks
    for name in HIGHWAY_CLASSES:  # validation: all masks of the mask classes, none of the others
        expected = report["val"]["counts"][name] if SEGMENTATION_COUNTS[name] else 0
        assert report["val"]["mask_counts"][name] == expected


def test_annotations_fit_the_picture_and_the_masks_fit_the_boxes(made):
    output, _ = made
    for split in ("train", "val"):
        coco = COCO(str(output / f"instances_{split}.json"))
        for note in coco.dataset["annotations"]:
            image = coco.imgs[note["image_id"]]
            x, y, w, h = note["bbox"]
            assert w >= 3 and h >= 3 and x >= 0 and y >= 0 and x + w <= image["width"] and y + h <= image["height"]
            if "segmentation" in note:
                mask = coco.annToMask(note)
                assert mask.shape == (image["height"], image["width"])
                assert list(cv2.boundingRect(mask)) == [x, y, w, h]
                assert note["area"] == mask.sum()
        for image in coco.dataset["images"]:
            picture = cv2.imread(str(output / split / image["file_name"]))
            assert picture.shape == (image["height"], image["width"], 3)
            assert picture.std() > 5


def test_the_written_mask_is_the_id_buffer(made):
    output, _ = made
    coco = COCO(str(output / "instances_train.json"))
    image_id = max(coco.imgs, key=lambda i: len(coco.getAnnIds(i)))
    notes = coco.loadAnns(coco.getAnnIds(image_id))
    drawn = render_scene([n["category_id"] for n in notes], SMALL["size"], (SMALL["seed"], 0, image_id - 1))
    masked = [k for k, n in enumerate(notes, 1) if "segmentation" in n]
    assert masked
    for k in masked:
        assert np.array_equal(coco.annToMask(notes[k - 1]).astype(bool), drawn.ids == k)


def test_masks_are_the_pixels_that_an_object_colours():
    """Repaint one object in a screaming colour: the pixels that change are its mask (their edges are blended)."""
    drawn = render_scene([1, 2, 3, 4, 5, 6, 7], (640, 360), (11, 0, 0))
    for label in range(1, 8):
        before = np.zeros((360, 640, 3), np.uint8)
        after = before.copy()
        for item in drawn.items:
            paint(item, before, drawn.air)
        for item in drawn.items:
            if item.label == label:
                loud = dict(colour=np.array([9e9, 0, 9e9]), texture=None)
                item = replace(item, prims=[replace(p, **loud) if p.alpha >= 1 else p for p in item.prims])
            paint(item, after, drawn.air)
        # Half covered counts as covered.
        changed = np.all(after[..., [0, 2]] > 127, axis=-1) & (after[..., 1] < 128) & np.any(after != before, axis=-1)
        mask = drawn.ids == label
        grown = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))) > 0
        shrunk = cv2.erode(mask.astype(np.uint8), np.ones((3, 3))) > 0
        assert changed.any()
        # Never more than one pixel off, on either side.
        assert (changed & ~grown).sum() <= 0.02 * mask.sum(), HIGHWAY_CLASSES[label - 1]
        assert (shrunk & ~changed).sum() <= 0.02 * mask.sum(), HIGHWAY_CLASSES[label - 1]


@pytest.mark.parametrize("seed", range(3))
def test_every_object_stays_visible(seed):
    categories = [1, 2, 3, 3, 4, 4, 4, 5, 6, 6, 7]
    drawn = render_scene(categories, (480, 270), (seed, 9, 9))
    side, area = scene.limits(270)
    for label, category in enumerate(categories, 1):
        own = np.zeros_like(drawn.ids)
        for item in drawn.items:
            if item.label == label:
                stamp(item, own, 1)
        seen = (drawn.ids == label).sum()
        least = scene.MIN_VISIBLE_POLE if category == plan.POLE else scene.MIN_VISIBLE
        assert seen >= area and seen >= least * own.sum()
        _, _, w, h = cv2.boundingRect((drawn.ids == label).astype(np.uint8))
        assert (h if category == plan.POLE else min(w, h)) >= side


def test_both_kinds_of_segmentation_decode_exactly():
    from pycocotools import mask as coco_mask

    def decode(found):
        run = coco_mask.merge(coco_mask.frPyObjects(found, 60, 80)) if isinstance(found, list) else found
        return coco_mask.decode(run).astype(bool)

    square, ring, pieces, touching = (np.zeros((60, 80), bool) for _ in range(4))
    square[10:31, 5:40] = True
    ring[5:30, 5:30] = True
    ring[10:20, 10:20] = False
    pieces[2:9, 2:9] = pieces[30:40, 30:50] = True
    touching[5:10, 5:10] = touching[10:20, 10:30] = True  # two pieces that share a corner
    diamond = np.add.outer(abs(np.arange(60) - 30), abs(np.arange(80) - 40)) <= 6
    full = np.ones((60, 80), bool)
    kinds = {}
    for name, mask in dict(
        square=square, ring=ring, pieces=pieces, touching=touching, diamond=diamond, full=full
    ).items():
        found = encode(mask)
        kinds[name] = type(found)
        assert np.array_equal(decode(found), mask), name
    assert kinds["square"] is list and kinds["diamond"] is list and kinds["full"] is list
    assert kinds["ring"] is dict and kinds["pieces"] is dict and kinds["touching"] is dict


def test_same_bytes_with_another_number_of_workers_and_other_bytes_with_another_seed(made, tmp_path):
    output, _ = made
    make_highway(tmp_path / "one", workers=1, **SMALL)
    assert _digest(tmp_path / "one") == _digest(output)
    make_highway(tmp_path / "other", workers=2, **{**SMALL, "seed": 4})
    ours, theirs = _digest(output), _digest(tmp_path / "other")
    assert set(ours) == set(theirs)
    assert not any(ours[name] == theirs[name] for name in ours)


def test_second_call_does_nothing_and_other_parameters_are_refused(made, monkeypatch):
    output, report = made
    before = {p: p.stat().st_mtime_ns for p in output.rglob("*")}
    with monkeypatch.context() as patch:
        patch.setattr(writer, "render_scene", lambda *a: pytest.fail("a picture was drawn again"))
        again = make_highway(output, workers=1, **SMALL)
        assert report["created"] and not again["created"]
        assert {k: v for k, v in again.items() if k != "created"} == {k: v for k, v in report.items() if k != "created"}
        with pytest.raises(FileExistsError, match=r"seed: there 3, asked 5.*overwrite"):
            make_highway(output, **{**SMALL, "seed": 5})
    assert {p: p.stat().st_mtime_ns for p in output.rglob("*")} == before


def test_an_interrupted_set_is_not_taken_for_complete(tmp_path, monkeypatch):
    small = {**SMALL, "train_images": 4, "val_images": 2, "counts": {"warning sign": 3}, "val_counts": {"bus stop": 1}}
    del small["scale"]
    real, calls = writer.render_scene, []

    def stop_at_the_third(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "render_scene", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            make_highway(tmp_path, workers=1, **small)
    assert list((tmp_path / "train").glob("*.jpg")) and not list(tmp_path.glob("*.json"))
    assert make_highway(tmp_path, workers=1, **small)["created"]
    # A picture that is missing later is noticed, too; so is a stop while an old set was being replaced.
    (tmp_path / "train" / "000002.jpg").unlink()
    assert make_highway(tmp_path, workers=1, **small)["created"]
    with monkeypatch.context() as patch:
        calls.clear()
        patch.setattr(writer, "render_scene", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            make_highway(tmp_path, workers=1, overwrite=True, **{**small, "seed": 8})
    assert not list(tmp_path.glob("*.json"))


def test_overwrite_removes_only_its_own_files(tmp_path):
    def make(images, **more):
        make_highway(
            tmp_path,
            train_images=images,
            val_images=1,
            size=(160, 120),
            counts={"warning sign": 1},
            val_counts={},
            workers=1,
            **more,
        )

    make(3)
    (tmp_path / "train" / "mine.jpg").write_bytes(b"x")
    make(2, overwrite=True)
    assert sorted(p.name for p in (tmp_path / "train").iterdir()) == ["000000.jpg", "000001.jpg", "mine.jpg"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": 0}, "train_images is 0"),
        ({"size": (100, 400)}, "expected"),
        ({"size": (2000, 200)}, "between"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"difficulty": 1.5}, "difficulty is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"val_floor": 0}, "val_floor is 0"),
        ({"quality": 101}, "quality is 101"),
        ({"workers": 0}, "workers is 0"),
        ({"counts": {"lamp post": 3}}, "unknown class 'lamp post'"),
        ({"counts": {"pavilion": 3}, "mask_counts": {"pavilion": 4}}, "more than its 3"),
        ({"mask_counts": {"pavilion": 4}}, "without counts"),
        ({"counts": {"bus stop": 15}}, "do not fit in 14 images"),
    ],
)
def test_bad_parameters_name_the_culprit_and_write_nothing(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        make_highway(tmp_path / "out", **{**SMALL, **change})
    assert not (tmp_path / "out").exists()


def test_a_foreign_annotation_file_is_left_alone(tmp_path):
    for split in ("train", "val"):
        (tmp_path / f"instances_{split}.json").write_text('{"images": []}')
    with pytest.raises(FileExistsError, match="not a file of this generator"):
        make_highway(tmp_path, overwrite=True, **SMALL)


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_highway_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_the_tool_prints_counts_and_rho(tool, tmp_path, capsys):
    args = f"--output {tmp_path}/set --train-images 10 --val-images 3 --size 192x128 --scale 0.004 --workers 1".split()
    assert tool(args) == 0
    printed = capsys.readouterr().out
    cells = {line.split("  ")[0]: line.split()[-4:] for line in printed.splitlines()}
    assert cells["single-arm pole"] == ["6", "0", "2", "0"] and cells["bus stop"] == ["1", "0", "1", "0"]
    assert cells["total"][:2] == ["16", "7"]
    assert cells["rho = max / min"][-2:] == ["6.00", "2.00"]
    assert tool(args) == 0
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        tool([*args, "--seed", "1"])
    assert stopped.value.code == 2 and "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--size", "640"], "WIDTHxHEIGHT"),
        (["--scale", "-1"], "scale is -1.0"),
        (["--scale", "many"], "--scale"),
        (["--train-images", "10"], "do not fit in 10 images"),
        (["--workers", "0"], "workers is 0"),
    ],
)
def test_the_tool_refuses_bad_input(tool, tmp_path, capsys, args, message):
    with pytest.raises(SystemExit) as stopped:
        tool(["--output", str(tmp_path / "set"), *args])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_the_tool_as_a_program_refuses_without_a_traceback(tmp_path):
    command = [sys.executable, str(TOOL), "--output", str(tmp_path / "set"), "--train-images", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "train_images is 0" in done.stderr and "Traceback" not in done.stderr


def test_less_difficulty_means_larger_signs_and_clear_days():
    objects = [plan.WARNING_SIGN, plan.INFO_SIGN]
    easy = [render_scene(objects, (240, 135), (7, 0, i), difficulty=0.0) for i in range(12)]
    hard = [render_scene(objects, (240, 135), (7, 0, i)) for i in range(12)]
    assert {scene.air.light for scene in easy} == {"day"}
    assert len({scene.air.light for scene in hard}) > 1
    assert np.mean([(s.ids > 0).mean() for s in easy]) > 1.2 * np.mean([(s.ids > 0).mean() for s in hard])
