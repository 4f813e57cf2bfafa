"""Numbers, names and files that cannot be converted: refused, with the file and the place in it."""

import json

import pytest
from PIL import Image

from reg_d2.data.convert import ConversionError, convert
from reg_d2.data.convert.classes import read_classes

from ...tools.loading import load_tool


def labelme(label, *points):
    shape = {"label": label, "shape_type": "polygon", "points": points}
    return json.dumps({"imagePath": "a.jpg", "shapes": [shape]})


def cvat(shape):
    return f'<annotations><meta/><image name="a.jpg" width="40" height="20">{shape}</image></annotations>'


def voc(thing):
    return f"<annotation><filename>a.jpg</filename>{thing}</annotation>"


def box(*corners, name="sign"):
    edges = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return voc(f"<object><name>{name}</name><bndbox>{edges}</bndbox></object>")


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("yolo", "\n0 nan .5 .1 .1\n", r"a\.txt, line 2: nan pixels"),
        ("yolo", "0 nan .5 .1 .1 .3 .4\n", r"a\.txt, line 1: nan pixels"),
        ("yolo", "0 .5 inf .1 .1\n", r"line 1: (inf|nan) pixels"),
        ("yolo", "0 1e9 .5 .1 .1 .3 .4\n", r"line 1: 4e\+10|line 1: 40000000000"),
        ("yolo", "inf .5 .5 .1 .1\n", r"a\.txt, line 1: class inf"),
        ("yolo", "nan .5 .5 .1 .1\n", "line 1: class nan"),
        ("yolo", "1.7 .5 .5 .1 .1\n", r"line 1: class 1\.7"),
        ("yolo", b"0 .5 .5 .1 \xff\n", r"a\.txt: UnicodeDecodeError"),
        ("labelme", labelme("sign", [1, 1], [20, 2], [NAN, 9]), r"a\.json: shape 1: nan pixels"),
        ("labelme", labelme("sign", [1, 1], [20, 2], [3, 9, 4]), r"a\.json: shape 1: ValueError"),
        ("labelme", labelme(None, [1, 1], [20, 2], [3, 9]), r"a\.json: None for the name"),
        ("labelme", labelme(" ", [1, 1], [20, 2], [3, 9]), r"a\.json: ' ' for the name"),
        ("cvat", cvat('<polygon label="x" points="1,1;20,2;nan,9"/>'), "image 'a.jpg': polygon 1: nan pixels"),
        ("cvat", cvat('<box label="x" xtl="1" ytl="2" xbr="inf" ybr="4"/>'), "image 'a.jpg': box 1: inf pixels"),
        ("cvat", cvat('<box label="x" xtl="1" ytl="2" xbr="3" ybr="4" rotation="nan"/>'), "box 1: nan"),
        ("cvat", cvat('<box label="" xtl="1" ytl="2" xbr="3" ybr="4"/>'), "image 'a.jpg': '' for the name"),
        ("cvat", cvat('<mask label="x" rle="0,9999999999" left="0" top="0" width="2" height="2"/>'), "expected 2x2"),
        ("cvat", '<annotations><track label="x"><box frame="0"/></track></annotations>', 'as "CVAT for images 1.1"'),
        ("cvat", "<annotations><meta/></annotations>", r"a\.xml: no <image> in it: no CVAT file"),
        ("cvat", "<annotations>", r"a\.xml: no XML file"),
        ("voc", box(30, 1, 10, 20), r"a\.xml: object 1: .*\[30\.0, 1\.0, 10\.0, 20\.0\].*below the minimum"),
        ("voc", voc("<object><name>sign</name></object>"), r"a\.xml: object 1: no bndbox"),
        ("voc", box(1, "nan", 10, 20), r"a\.xml: object 1: nan pixels"),
        ("voc", box(1, "x", 10, 20), r"a\.xml: object 1: ValueError"),
        ("voc", box(1, 1, 10, 20, name=""), r"a\.xml: '' for the name"),
        ("voc", "<annotation/>", r"a\.xml: it names the image ''"),
    ],
)
def test_values_that_are_refused(tmp_path, name, text, message):
    images, source = tmp_path / "images", tmp_path / "source"
    images.mkdir()
    source.mkdir()
    Image.new("RGB", (40, 20)).save(images / "a.jpg")
    file = source / {"yolo": "a.txt", "labelme": "a.json"}.get(name, "a.xml")
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConversionError, match=message):
        convert(name, file if name == "cvat" else source, images, ["sign", "bus stop"])


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("c.txt", "car\r\nsign\r\n\r\n  \n", {0: "car", 1: "sign"}),
        ("c.txt", "\ufeffcar\nsign", {0: "car", 1: "sign"}),
        ("c.yaml", "\ufeffnames: [car, 3]", {0: "car", 1: "3"}),
        ("c.yaml", "names: {0: car, '2': sign}", {0: "car", 2: "sign"}),
        ("c.txt", "car\n\nsign\n", r"c\.txt: entry 2 has no name"),
        ("c.yaml", "names: [car, '', sign]", r"c\.yaml: entry 2 has no name"),
        ("c.yaml", "names: {0: car, 1: , 2: sign}", "class 1 has no name"),
        ("c.yaml", "names: {0: car, one: sign}", "'one' for the number of a class"),
        ("c.yaml", "names: {0: car, -1: sign}", "-1 for the number of a class"),
        ("c.yaml", "names: {car: 0, sign: 1}", "'car' for the number of a class"),
        ("c.yaml", "names: {1: car, '1': sign}", "expected distinct"),
        ("c.yaml", "names: [car, no]", "entry 2 is read as False: put quotes around it"),
        ("c.yaml", "car", "expected a list of names"),
        ("c.yaml", "names: [car, sign\n", r"c\.yaml: no YAML file"),
        ("c.txt", "car\nsign\ncar\n", r"c\.txt: expected distinct"),
        ("c.txt", "\n", r"c\.txt: expected distinct"),
    ],
)
def test_class_lists(tmp_path, file, text, expected):
    """A class is either under its own number or refused: nothing moves up."""
    path = tmp_path / file
    path.write_bytes(text.encode())
    if isinstance(expected, dict):
        assert read_classes(path) == expected
    else:
        with pytest.raises(ConversionError, match=expected):
            read_classes(path)


def test_numbers_of_classes_may_have_gaps(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_bytes("\ufeff2 0.5 0.5 0.1 0.1\n".encode())
    (tmp_path / "c.yaml").write_text("names: {0: car, 2: sign}")
    content = convert("yolo", tmp_path, tmp_path, tmp_path / "c.yaml").build()
    assert [c["name"] for c in content["categories"]] == ["car", "sign"]
    assert [a["category_id"] for a in content["annotations"]] == [2]


def test_labelme_names_that_are_numbers(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text("\ufeff" + labelme(3, [1, 1], [20, 2], [3, 9]), encoding="utf-8")
    assert convert("labelme", tmp_path, tmp_path).build()["categories"] == [{"id": 1, "name": "3"}]


def test_the_tool_tells_what_it_took_otherwise(tmp_path, capsys):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(box(1, 1, 9, 9).replace("<bndbox>", "<difficult>1</difficult><bndbox>"))
    assert (
        load_tool("convert_dataset").main(
            ["voc", str(tmp_path), "--images", str(tmp_path), "--output", str(tmp_path / "all.json")]
        )
        == 0
    )
    assert "note: 1 difficult objects became crowd regions" in capsys.readouterr().out
