"""Pictures: missing, broken, turned by EXIF, of another size; and the same picture in two splits."""

import json
import os

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import detection_utils as utils
from PIL import Image

from reg_d2.data.checks import check_dataset, check_splits, inspect_images, repair
from reg_d2.data.checks.geometry import turned
from reg_d2.data.checks.images import difference_hash
from reg_d2.data.checks.splits import near_pairs

from .conftest import HEIGHT, WIDTH, picture


def found(path, folder):
    checked = check_dataset(path, folder, "test", workers=2)
    return checked, {f.kind: f for f in checked.report.findings}


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x0131] = "PhoneCam 3"
    return tags


def test_pictures_that_cannot_be_read(on_disk):
    path, folder = on_disk
    whole = (folder / "1.png").read_bytes()
    for content, kind in ((None, "image_missing"), (whole[:-60], "image_truncated"), (b"x" * 99, "image_unreadable")):
        (folder / "1.png").unlink(missing_ok=True)
        if content is not None:
            (folder / "1.png").write_bytes(content)
        checked, kinds = found(path, folder)
        assert kinds[kind].ids == ["1.png"] and "object at 0x" not in kinds[kind].detail
        repaired, _ = repair(checked.content, checked.facts)
        assert [r["id"] for r in repaired.content["images"]] == [2]
        assert [a["image_id"] for a in repaired.content["annotations"]] == [2]
        assert not repaired.report.fixable


def test_a_missing_file_that_is_there_under_another_ending(on_disk):
    path, folder = on_disk
    (folder / "1.png").rename(folder / "1.PNG")
    assert "there is 1.PNG" in found(path, folder)[1]["image_missing"].detail


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_exif_rotation_is_named_and_objects_are_turned(on_disk, sound, orientation):
    """A white object on black: after the repair its box and mask lie on it, as Detectron2 reads the picture."""
    path, folder = on_disk
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    pixels[5:15, 20:50] = 255
    sound["images"][0]["file_name"] = "1.jpg"
    run = mask_util.encode(np.asfortranarray(pixels // 255))
    segmentations = ([[20, 5, 50, 5, 50, 15, 20, 15]], {"size": [HEIGHT, WIDTH], "counts": run["counts"].decode()})
    sound["annotations"] = [
        {"id": i + 1, "image_id": 1, "category_id": i + 1, "bbox": [20, 5, 30, 10], "area": 300, "segmentation": s}
        for i, s in enumerate(segmentations)
    ]
    path.write_text(json.dumps(sound))
    Image.fromarray(pixels).save(folder / "1.jpg", exif=exif(orientation), quality=95)
    checked, kinds = found(path, folder)
    assert "PhoneCam 3" in kinds["image_exif_rotated"].detail
    repaired, _ = repair(checked.content, checked.facts)
    record = repaired.content["images"][0]
    seen = utils.read_image(folder / "1.jpg", "BGR")[..., 0] > 127
    assert seen.shape == (record["height"], record["width"]) == (WIDTH, HEIGHT)
    y, x = np.nonzero(seen)
    for annotation in repaired.content["annotations"]:
        assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
    polygon, run = (a["segmentation"] for a in repaired.content["annotations"])
    assert (mask_util.decode(run).astype(bool) == seen).all()
    filled = mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygon, WIDTH, HEIGHT))).astype(bool)
    assert (filled == seen).mean() > 0.98
    assert not repaired.report.fixable


def test_a_turn_that_the_size_does_not_show_is_noted(on_disk, sound):
    path, folder = on_disk
    for side, orientation, noted in (((WIDTH, HEIGHT), 3, True), ((40, 40), 6, True), ((40, 40), 1, False)):
        sound["images"][0].update(file_name="1.jpg", width=side[0], height=side[1])
        path.write_text(json.dumps(sound))
        picture(1, *side).save(folder / "1.jpg", exif=exif(orientation))
        assert ("image_exif_turned" in found(path, folder)[1]) == noted


def test_turning_knows_only_right_angles():
    with pytest.raises(KeyError):
        turned({"bbox": [0, 0, 1, 1]}, 3, (4, 4))


def test_other_sizes(on_disk, sound):
    path, folder = on_disk
    # Half the size, the same shape: objects are scaled. Another shape in which they fit: only the size is changed.
    for size, scale in (((32, 24), 0.5), ((64, 60), 1)):
        picture(1, *size).save(folder / "1.png")
        checked, kinds = found(path, folder)
        assert kinds["image_size_differs"].ids == ["1.png"]
        sound["annotations"][1].pop("segmentation", None)
        repaired, _ = repair({**checked.content, "annotations": sound["annotations"]}, checked.facts)
        assert (repaired.content["images"][0]["width"], repaired.content["images"][0]["height"]) == size
        assert repaired.content["annotations"][0]["bbox"] == [10 * scale, 10 * scale, 20 * scale, 20 * scale]
        assert not repaired.report.fixable
    picture(1, 20, 40).save(folder / "1.png")
    checked, kinds = found(path, folder)
    repaired, changes = repair(checked.content, checked.facts)
    assert [r["id"] for r in repaired.content["images"]] == [2] and "do not fit 20x40" in str(changes[0])


def test_width_and_height_exchanged(on_disk, sound):
    path, folder = on_disk
    sound["images"][0].update(width=HEIGHT, height=WIDTH)
    path.write_text(json.dumps(sound))
    assert "exchanged" in found(path, folder)[1]["image_size_differs"].detail


def test_the_same_and_nearly_the_same_picture_in_two_splits(on_disk, tmp_path, sound):
    path, folder = on_disk
    other = tmp_path / "val"
    other.mkdir()
    (other / "1.png").write_bytes((folder / "2.png").read_bytes())
    brighter = picture(1).point(lambda v: min(255, int(v * 1.1) + 5))
    brighter.resize((60, 45)).resize((WIDTH, HEIGHT)).save(other / "2.png")
    first, second = (check_dataset(path, where, name) for where, name in ((folder, "train"), (other, "val")))
    (report,) = check_splits([first, second])
    kinds = {f.kind: f for f in report.findings}
    assert kinds["image_in_two_splits"].ids == ["2.png = 1.png"]
    assert kinds["image_near_duplicate"].ids == ["1.png ~ 2.png"]
    for i in (1, 2):
        picture(10 + i).save(other / f"{i}.png")
    assert check_splits([first, check_dataset(path, other, "val")])[0].findings == []


def test_nearest_hashes_against_a_loop():
    rng = np.random.default_rng(0)
    a = rng.random((1500, 128)) < 0.5
    b = np.concatenate([a[:40] ^ (rng.random((40, 128)) < 0.04), rng.random((60, 128)) < 0.5])
    found = {(i, j): n for i, j, n in near_pairs(a, b, limit=10).tolist()}
    expected = {}
    for i in range(60):
        differ = (a[i] ^ b).sum(1)
        if differ.min() <= 10:
            expected[i, int(differ.argmin())] = int(differ.min())
    assert {k: v for k, v in found.items() if k[0] < 60} == expected and len(expected) > 30


def test_a_picture_without_contrast_has_no_hash():
    assert difference_hash(Image.new("RGB", (64, 48), (9, 9, 9))) is None


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert inspect_images([tmp_path / "pipe.png"])[0].problem == "image_missing"


def test_class_lists_of_two_splits(on_disk, sound):
    path, folder = on_disk
    first = check_dataset(path, folder, "a")
    sound["categories"] = [{"id": 2, "name": "sign"}, {"id": 1, "name": "pole"}]
    path.write_text(json.dumps(sound))
    assert "classes_order" in check_splits([first, check_dataset(path, folder, "b")])[0].kinds()
    sound["categories"][0]["name"] = "bus stop"
    path.write_text(json.dumps(sound))
    assert "classes_differ" in check_splits([first, check_dataset(path, folder, "b")])[0].kinds()
