"""Where objects come to lie: EXIF, rotated boxes, VOC's first pixel, palettes; and which picture is meant."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import detection_utils as utils
from PIL import Image

from reg_d2.data.checks import check_dataset
from reg_d2.data.convert import ConversionError, convert

from .test_formats import objects

# The object in the picture as stored, 40x20: x 16..24, y 4..8. EXIF turns the picture to 20x40.
STORED = np.zeros((20, 40), dtype=np.uint8)
STORED[4:8, 16:24] = 255


def picture(path, orientation=1, pixels=STORED):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))


def corners(orientation, *, shown):
    """(width, height), (x1, y1, x2, y2) of the object, in the picture as shown or as stored."""
    turns = {5: STORED.T, 6: np.rot90(STORED, -1), 7: np.rot90(STORED, 2).T, 8: np.rot90(STORED)}
    pixels = turns.get(orientation, STORED) if shown else STORED
    y, x = np.nonzero(pixels)
    return pixels.shape[::-1], [int(v) for v in (x.min(), y.min(), x.max() + 1, y.max() + 1)]


def write(name, folder, size, box):
    """One object with that box in each format; a polygon or mask where the format has them. Returns the source."""
    (w, h), (x1, y1, x2, y2) = size, box
    folder.mkdir(parents=True, exist_ok=True)
    ring = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    if name == "yolo":
        (folder / "a.txt").write_text(f"0 {(x1 + x2) / 2 / w} {(y1 + y2) / 2 / h} {(x2 - x1) / w} {(y2 - y1) / h}\n")
    elif name == "labelme":
        shape = {"label": "sign", "shape_type": "polygon", "points": ring}
        content = {"imagePath": "a.jpg", "imageWidth": w, "imageHeight": h, "shapes": [shape]}
        (folder / "a.json").write_text(json.dumps(content))
    elif name == "voc":
        (folder / "a.xml").write_text(xml(box, f"<size><width>{w}</width><height>{h}</height></size>"))
    elif name == "png":
        mask = np.zeros((h, w), dtype=np.uint8)
        mask[y1:y2, x1:x2] = 1
        Image.fromarray(mask).save(folder / "a.png")
        (folder.parent / "classes.yaml").write_text("1: sign\n")
    else:
        points = ";".join(f"{x},{y}" for x, y in ring)
        shape = f'<polygon label="sign" points="{points}"/>'
        (folder / "a.xml").write_text(f'<a><image name="a.jpg" width="{w}" height="{h}">{shape}</image></a>')
        return folder / "a.xml"
    return folder


def xml(box, more="", name="a.jpg", extra=""):
    edges = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    thing = f"<object><name>sign</name>{extra}<bndbox>{edges}</bndbox></object>"
    return f"<annotation><filename>{name}</filename>{more}{thing}</annotation>"


@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])
@pytest.mark.parametrize(
    ("name", "shown"),
    [("yolo", True)] + [(name, shown) for name in ("labelme", "voc", "cvat", "png") for shown in (True, False)],
)
def test_objects_lie_on_pictures_that_exif_turns(tmp_path, name, shown, orientation):
    """The numbers are of the picture as shown, or, where the format gives that size, as stored."""
    images = tmp_path / "images"
    picture(images / "a.jpg", orientation)
    source = write(name, tmp_path / "source", *corners(orientation, shown=shown))
    classes = {"yolo": ["sign"], "png": tmp_path / "classes.yaml"}.get(name)
    content = convert(name, source, images, classes).build()
    seen = utils.read_image(images / "a.jpg", "L")[..., 0] > 127
    record, annotation = content["images"][0], content["annotations"][0]
    assert (record["height"], record["width"]) == seen.shape
    y, x = np.nonzero(seen)
    assert annotation["bbox"] == pytest.approx([x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1])
    assert annotation["area"] == pytest.approx(32, abs=8)
    if name == "png":
        assert (mask_util.decode(annotation["segmentation"]).astype(bool) == seen).all()
    (tmp_path / "all.json").write_text(json.dumps(content))
    report = check_dataset(tmp_path / "all.json", images, "x", workers=1).report
    assert not [f for f in report.findings if f.severity == "error"]


@pytest.mark.parametrize("name", ["labelme", "voc", "cvat"])
def test_another_size_is_left_to_the_check(tmp_path, name):
    """A picture that was resized after it was annotated: the check says so, and its repair scales the objects."""
    picture(tmp_path / "images" / "a.jpg")
    source = write(name, tmp_path / "source", (80, 40), (32, 8, 48, 16))
    content = convert(name, source, tmp_path / "images").build()
    (tmp_path / "all.json").write_text(json.dumps(content))
    report = check_dataset(tmp_path / "all.json", tmp_path / "images", "x", workers=1).report
    assert "image_size_differs" in report.kinds()


@pytest.mark.parametrize(
    ("rotation", "box"),
    [("90.0", [10, 40, 80, 20]), ("0", [40, 10, 20, 80]), ("30", [21.3397, 10.359, 57.3205, 79.282])],
)
def test_rotated_cvat_box(tmp_path, rotation, box):
    picture(tmp_path / "images" / "a.jpg", pixels=np.zeros((100, 100), dtype=np.uint8))
    shape = f'<box label="car" xtl="40" ytl="10" xbr="60" ybr="90" rotation="{rotation}"/>'
    (tmp_path / "a.xml").write_text(f'<a><image name="a.jpg" width="100" height="100">{shape}</image></a>')
    content = convert("cvat", tmp_path / "a.xml", tmp_path / "images").build()
    assert content["annotations"][0]["bbox"] == pytest.approx(box, abs=1e-3)


SOURCE = "<source><database>The VOC2007 Database</database><annotation>PASCAL VOC2007</annotation></source>"


@pytest.mark.parametrize(
    ("first", "second", "more", "box"),
    [
        ((1, 1, 40, 20), (3, 2, 5, 6), SOURCE, [0, 0, 40, 20]),  # the challenge: from 1, the last pixel included
        ((1, 1, 40, 20), (3, 0, 5, 6), SOURCE, [1, 1, 39, 19]),  # a 0 in another file: it only copies the name
        ((1, 1, 40, 20), (3, 2, 5, 6), "<source><database>Unknown</database></source>", [1, 1, 39, 19]),  # labelImg
    ],
)
def test_voc_counts_pixels_from_one_in_the_challenge_only(tmp_path, first, second, more, box):
    for name, corner in (("a", first), ("b", second)):
        picture(tmp_path / f"{name}.jpg")
        (tmp_path / f"{name}.xml").write_text(xml(corner, more, f"{name}.jpg"))
    builder = convert("voc", tmp_path, tmp_path)
    assert builder.build()["annotations"][0]["bbox"] == box
    assert list(builder.notes.values()) == ([2] if box[0] == 0 else [])


def test_difficult_voc_objects_are_crowd_regions(tmp_path):
    for name, value in (("a", 1), ("b", 0)):
        picture(tmp_path / f"{name}.jpg")
        extra = f"<difficult>{value}</difficult>"
        (tmp_path / f"{name}.xml").write_text(xml((1, 1, 9, 9), name=f"{name}.jpg", extra=extra))
    builder = convert("voc", tmp_path, tmp_path)
    assert [a["iscrowd"] for a in builder.build()["annotations"]] == [1, 0]
    assert [(text[:9], n) for text, n in builder.notes.items()] == [("difficult", 1)]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_voc_without_size_has_the_pictures(tmp_path, size):
    picture(tmp_path / "a.jpg", 6)
    (tmp_path / "a.xml").write_text(xml((1, 1, 9, 9), size))
    record = convert("voc", tmp_path, tmp_path).build()["images"][0]
    assert (record["width"], record["height"]) == (20, 40)


@pytest.mark.parametrize("mode", ["P", "L", "I;16", "1"])
def test_masks_of_any_one_channel(tmp_path, mode):
    """VOC's own masks have a palette: their indices are the classes, not their colours."""
    picture(tmp_path / "images" / "a.jpg")
    value = 255 if mode == "1" else 3
    mask = Image.fromarray((STORED > 0).astype(np.uint16 if mode == "I;16" else np.uint8) * value)
    if mode == "P":
        mask.putpalette([0, 0, 0, 9, 9, 9, 128, 0, 0, 64, 128, 192])
    (tmp_path / "masks").mkdir()
    (mask.convert("1") if mode == "1" else mask).save(tmp_path / "masks" / "a.png")
    (tmp_path / "classes.yaml").write_text(f"{value}: sign\n")
    content = convert("png", tmp_path / "masks", tmp_path / "images", tmp_path / "classes.yaml").build()
    assert [o[1:3] for o in objects(content)] == [("sign", [16, 4, 8, 4])]
    assert Image.open(tmp_path / "masks" / "a.png").mode == mode


@pytest.mark.parametrize("name", ["labelme", "voc"])
@pytest.mark.parametrize(
    ("folder", "named", "expected"),
    [
        ("images/cam2", "a.jpg", "cam2/a.jpg"),  # beside the picture
        ("source/cam2", "a.jpg", "cam2/a.jpg"),  # the same folder below --images
        ("source/cam2", "../../images/a.jpg", "a.jpg"),  # relative to the annotation
        ("source/cam2", "..\\photos\\a.jpg", "cam2/a.jpg"),  # another machine's folder
        ("source/cam3", "cam2/a.jpg", "cam2/a.jpg"),
        ("source/cam3", "a.jpg", "a.jpg"),
    ],
)
def test_pictures_of_one_name_in_several_folders(tmp_path, name, folder, named, expected):
    images, folder = tmp_path / "images", tmp_path / folder
    picture(images / "a.jpg")
    picture(images / "cam2" / "a.jpg")
    folder.mkdir(parents=True, exist_ok=True)
    if name == "voc":
        (folder / "a.xml").write_text(xml((1, 1, 9, 9), "<size><width>40</width><height>20</height></size>", named))
    else:
        (folder / "a.json").write_text(json.dumps({"imagePath": named, "shapes": []}))
    content = convert(name, images if "images" in str(folder.parent) else tmp_path / "source", images).build()
    assert [i["file_name"] for i in content["images"]] == [expected]


@pytest.mark.parametrize(("name", "suffix"), [("yolo", "txt"), ("png", "png")])
def test_annotations_that_are_not_of_one_picture(tmp_path, name, suffix):
    images, source = tmp_path / "images", tmp_path / "source"
    picture(images / "a.jpg")
    source.mkdir()
    (tmp_path / "classes.yaml").write_text("1: sign\n")
    arguments = name, source, images, tmp_path / "classes.yaml"
    with pytest.raises(ConversionError, match="has the name of an image"):
        convert(*arguments)
    for stem in "abcde":
        if name == "yolo":
            (source / f"{stem}.txt").write_text("1 0.5 0.5 0.1 0.1\n")
        else:
            picture(source / f"{stem}.png")
    (source / "classes.txt").write_text("sign\n")
    [(text, count)] = convert(*arguments).skipped.items()
    assert count == 4 and text.endswith(f"b.{suffix}, c.{suffix}, d.{suffix}, ...")
    picture(images / "a.png")
    with pytest.raises(ConversionError, match=r"a\.jpg and a\.png"):
        convert(*arguments)
