"""tools/check_dataset.py: exit statuses, the report, the printed repair, and the repaired copy."""

import json
import shlex

import pytest

from ..engine.conftest import write_split
from .loading import load_tool

main = load_tool("check_dataset").main


@pytest.fixture
def data(tmp_path):
    write_split(tmp_path, "train", 4)
    write_split(tmp_path, "val", 2, seed=1)
    return tmp_path


def named(data, split):
    return f"{data / split}.json:{data / split}"


def damage(data, split, **values):
    path = data / f"{split}.json"
    content = json.loads(path.read_text())
    content["annotations"][0].update(values)
    path.write_text(json.dumps(content))


def test_sound_data(data, capsys):
    assert main([named(data, "train"), named(data, "val"), "--output", str(data / "report.json")]) == 0
    reports = json.loads((data / "report.json").read_text())
    assert [r["name"] for r in reports][:2] == [named(data, "train"), named(data, "val")]
    assert reports[0]["pictures opened"] == 4
    assert "box_only" in capsys.readouterr().out


def test_the_printed_command_repairs(data, capsys):
    damage(data, "train", bbox=[1, 2, None, 4], id=0)
    (data / "train" / "3.png").unlink()
    before = (data / "train.json").read_bytes()
    assert main([named(data, "train")]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "--fix" in line]
    arguments = shlex.split(line[line.index("python tools/check_dataset.py") :])[2:]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "image 3: dropped with its objects" not in out and "image 3: dropped (image_missing)" in out
    assert (data / "train.json").read_bytes() == before
    fixed = data / "train_fixed.json"
    listed = (data / "train_fixed.changes.txt").read_text().splitlines()
    assert len(listed) == len(set(listed)) >= 4, "one line a change: box, image, and the objects of the image"
    assert main([f"{fixed}:{data / 'train'}"]) == 0


def test_warnings_count_when_asked(data):
    damage(data, "train", bbox=[90, 2, 40, 4])
    assert main([named(data, "train")]) == 0
    assert main([named(data, "train"), "--strict"]) == 1


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_unusable_input(data, text, capsys):
    if text is None:
        (data / "train.json").unlink()
    else:
        (data / "train.json").write_text(text)
    with pytest.raises(SystemExit) as stop:
        main([named(data, "train")])
    assert stop.value.code == 2 and "train.json" in capsys.readouterr().err


def test_the_input_is_not_overwritten(data, capsys):
    with pytest.raises(SystemExit) as stop:
        main([named(data, "train"), "--fix", str(data / "train.json")])
    assert stop.value.code == 2 and "is the input itself" in capsys.readouterr().err
