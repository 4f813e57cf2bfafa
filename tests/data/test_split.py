"""Splitting by group: no group in two parts, rare classes in every part, the same result again."""

import json

import numpy as np
import pytest

from reg_d2.data.checks import check_content
from reg_d2.data.split import groups_by_pattern, groups_by_table, split_dataset, split_groups

from ..tools.loading import load_tool

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def coco(seed=0, drives=20):
    """A rare class in four drives only, a middle one, a common one, and empty images."""
    rng = np.random.default_rng(seed)
    images, objects = [], []
    for drive in range(drives):
        for frame in range(rng.integers(3, 12)):
            images.append({"id": len(images), "file_name": f"d{drive:02}_{frame}.jpg", "width": 64, "height": 48})
            classes = [3] * rng.integers(0, 4) + [2] * (rng.random() < 0.3) + [1] * (drive % 5 == 0 and frame == 0)
            for k, c in enumerate(classes):
                entry = {"id": len(objects) + 1, "image_id": len(images) - 1, "category_id": c, "iscrowd": 0}
                objects.append({**entry, "bbox": [5 * k, 5, 8, 8], "area": 64})
    categories = [{"id": i, "name": n} for i, n in ((1, "bus stop"), (2, "sign"), (3, "pole"))]
    return {"images": images, "annotations": objects, "categories": categories}


def by_drive(names):
    return groups_by_pattern(names, r"^(d\d+)_")


@pytest.mark.parametrize("seed", range(5))
def test_parts(seed):
    content = coco(seed)
    parts = split_dataset(check_content(content, "x"), by_drive, SHARES, seed)
    drives = {name: {i["file_name"][:3] for i in part["images"]} for name, part in parts.items()}
    assert not any(drives[a] & drives[b] for a, b in (("train", "val"), ("train", "test"), ("val", "test")))
    for key in ("images", "annotations"):
        ids = sorted(record["id"] for part in parts.values() for record in part[key])
        assert ids == [record["id"] for record in content[key]], "each exactly once"
    for part in parts.values():
        assert {a["category_id"] for a in part["annotations"]} == {1, 2, 3}, "rare classes are in every part"
    share = len(parts["train"]["images"]) / len(content["images"])
    assert share == pytest.approx(0.7, abs=0.12)
    assert parts == split_dataset(check_content(content, "x"), by_drive, SHARES, seed)


def test_balance_against_a_random_split():
    """Shares of each class in the first part are nearer to what was asked than those of random splits."""
    rng = np.random.default_rng(0)
    counts, images = rng.poisson([0.3, 3, 20], (60, 3)), rng.integers(1, 30, 60)
    off = lambda part: np.abs(counts[part == 0].sum(0) / counts.sum(0) - 0.8).max()  # noqa: E731
    random = [off((rng.random(60) > 0.8).astype(int)) for _ in range(50)]
    assert off(split_groups(counts, images, (0.8, 0.2))) < np.percentile(random, 10)


def test_groups(tmp_path):
    assert groups_by_pattern(["a/1_x.jpg", "b/2_x.jpg"], r"\d") == ["1", "2"]
    with pytest.raises(ValueError, match=r"matches nothing in 1 file names, the first is 'x.jpg'"):
        groups_by_pattern(["1.jpg", "x.jpg"], r"\d")
    with pytest.raises(ValueError, match="no regular expression"):
        groups_by_pattern(["a"], "(")
    (tmp_path / "groups.csv").write_text("1.jpg,north\n2.jpg,south\n")
    assert groups_by_table(["2.jpg", "1.jpg"], tmp_path / "groups.csv") == ["south", "north"]
    with pytest.raises(ValueError, match="lacks 1 file names"):
        groups_by_table(["3.jpg"], tmp_path / "groups.csv")


def test_what_cannot_be_split():
    checked = check_content(coco(drives=2), "x")
    with pytest.raises(ValueError, match="2 groups for 3 parts"):
        split_dataset(checked, by_drive, SHARES)
    with pytest.raises(ValueError, match="above 0"):
        split_dataset(checked, by_drive, {"train": 1, "val": 0})
    broken = coco()
    broken["annotations"][0]["image_id"] = "1"
    with pytest.raises(ValueError, match=r"x has errors, repair it first.*\n.*annotation_image_unknown"):
        split_dataset(check_content(broken, "x"), by_drive, SHARES)


def test_the_tool(tmp_path, capsys):
    (tmp_path / "all.json").write_text(json.dumps(coco()))
    tool = load_tool("split_dataset").main
    arguments = [str(tmp_path / "all.json"), "--group", r"^(d\d+)_", "--output", str(tmp_path / "out")]
    assert tool(arguments) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["test.json", "train.json", "val.json"]
    few = coco(drives=3)
    few["annotations"] = [a for a in few["annotations"] if a["category_id"] != 1 or a["image_id"] == 0]
    (tmp_path / "all.json").write_text(json.dumps(few))
    assert tool([*arguments, "--shares", "train=2", "val=1"]) == 1
    assert "bus stop is missing from" in capsys.readouterr().err
