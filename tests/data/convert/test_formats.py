"""Round trips: COCO, another format (written by globox, or by hand from its description), and back."""

import json
from itertools import chain

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from globox import AnnotationSet
from PIL import Image

from reg_d2.data.checks import check_content
from reg_d2.data.convert import ConversionError, convert

from ...tools.loading import load_tool

WIDTH, HEIGHT = 80, 60
# Image, class, box x y w h, polygons (None: a box only).
OBJECTS = [
    ("a.jpg", "bus stop", (4, 6, 20, 30), None),
    ("a.jpg", "sign", (30, 10, 20, 20), [[30, 10, 50, 10, 50, 30, 30, 30]]),
    ("b.jpg", "sign", (8, 8, 40, 12), [[8, 8, 20, 8, 20, 20], [40, 8, 48, 8, 48, 20]]),
]
NAMES = ["sign", "bus stop", "never seen"]


@pytest.fixture
def folders(tmp_path):
    images, source = tmp_path / "images", tmp_path / "source"
    images.mkdir()
    source.mkdir()
    for name in ("a.jpg", "b.jpg", "empty.jpg"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(images / name)
    return source, images


def coco():
    names = ["a.jpg", "b.jpg", "empty.jpg"]
    return {
        "images": [{"id": i, "file_name": n, "width": WIDTH, "height": HEIGHT} for i, n in enumerate(names)],
        "categories": [{"id": i, "name": n} for i, n in enumerate(NAMES)],
        "annotations": [
            {"id": i, "image_id": names.index(image), "category_id": NAMES.index(name), "bbox": list(box), "area": 1}
            | {"iscrowd": 0, "segmentation": []}
            for i, (image, name, box, _) in enumerate(OBJECTS, start=1)
        ],
    }


def objects(content):
    """(image, class, box, segmentation) of a COCO dict."""
    images = {i["id"]: i["file_name"] for i in content["images"]}
    names = {c["id"]: c["name"] for c in content["categories"]}
    return [
        (images[a["image_id"]], names[a["category_id"]], a["bbox"], a["segmentation"]) for a in content["annotations"]
    ]


def assert_sound(content):
    kinds = check_content(content, "x").report.kinds()
    assert kinds <= {"box_only", "image_empty", "category_unused"}


def assert_same(content, *, masks):
    assert_sound(content)
    found = sorted(objects(content), key=lambda o: (o[0], o[1]))
    assert [o[:2] for o in found] == [o[:2] for o in OBJECTS]
    for got, (_, _, box, polygons) in zip(found, OBJECTS, strict=True):
        assert got[2] == pytest.approx(list(box), abs=1e-3)
        expected = (polygons or []) if masks else []
        assert len(got[3]) == len(expected)
        for a, b in zip(got[3], expected, strict=True):
            assert a == pytest.approx(b, abs=1e-3)


@pytest.mark.parametrize("name", ["yolo", "voc", "labelme", "cvat"])
def test_boxes_written_by_globox(folders, name):
    source, images = folders
    (source.parent / "coco.json").write_text(json.dumps(coco()))
    written = AnnotationSet.from_coco(source.parent / "coco.json")
    if name == "yolo":
        written.save_yolo_v5(source, label_to_id={n: i for i, n in enumerate(NAMES)})
    elif name == "cvat":
        source = source / "all.xml"
        written.save_cvat(source)
    else:
        getattr(written, {"voc": "save_pascal_voc", "labelme": "save_labelme"}[name])(source)
    content = convert(name, source, images, NAMES).build()
    assert [c["name"] for c in content["categories"]] == NAMES
    assert len(content["images"]) == 3
    assert_same(content, masks=False)


def test_yolo_segments_and_boxes_in_one_file(folders):
    source, images = folders
    for image, name, (x, y, w, h), polygons in OBJECTS:
        box = [(x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT]
        points = [v / (HEIGHT if i % 2 else WIDTH) for i, v in enumerate(chain.from_iterable(polygons or []))]
        with open(source / image.replace("jpg", "txt"), "a") as f:
            f.write(" ".join(str(v) for v in [NAMES.index(name), *(points or box)]) + "\n")
    (source / "data.yaml").write_text("names: {0: sign, 1: bus stop, 2: never seen}\ntrain: x\n")
    content = convert("yolo", source, images, source / "data.yaml").build()
    assert_sound({**content, "annotations": content["annotations"][:2]})
    bus, sign, _ = sorted(objects(content), key=lambda o: o[:2])
    assert bus[3] == [] and bus[2] == pytest.approx([4, 6, 20, 30]), "a box does not become a mask"
    assert sign[3][0] == pytest.approx(OBJECTS[1][3][0]) and sign[2] == pytest.approx([30, 10, 20, 20])


def test_labelme_polygons(folders):
    source, images = folders
    for image in ("a.jpg", "b.jpg", "empty.jpg"):
        shapes = []
        for k, (_, name, (x, y, w, h), polygons) in enumerate(o for o in OBJECTS if o[0] == image):
            if polygons is None:
                shapes.append({"label": name, "shape_type": "rectangle", "points": [[x + w, y], [x, y + h]]})
            for p in polygons or []:
                points = np.reshape(p, (-1, 2)).tolist()
                shapes.append({"label": name, "shape_type": "polygon", "points": points, "group_id": k})
        shapes.append({"label": "sign", "shape_type": "point", "points": [[1, 1]]})
        content = {"imagePath": f"..\\photos\\{image}", "imageData": None, "shapes": shapes}
        (source / image.replace("jpg", "json")).write_text(json.dumps(content))
    builder = convert("labelme", source, images)
    assert_same(builder.build(), masks=True)
    assert builder.skipped == {"point of 1 points": 3}


def test_cvat_polygons_and_masks(folders):
    source, images = folders
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[20:30, 40:50] = True
    mask[24:26, 44:46] = False
    part = mask[18:32, 38:52].ravel()
    runs = np.diff([0, *np.flatnonzero(np.diff(np.append(0, part))), len(part)])
    points = [";".join(f"{x},{y}" for x, y in zip(p[::2], p[1::2], strict=True)) for p in OBJECTS[2][3]]
    text = f"""<?xml version="1.0"?><annotations><meta><job><labels><label><name>sign</name></label>
    <label><name>bus stop</name></label></labels></job></meta>
    <image id="0" name="a.jpg" width="{WIDTH}" height="{HEIGHT}">
      <box label="bus stop" xtl="4" ytl="6" xbr="24" ybr="36"/>
      <polygon label="sign" points="30,10;50,10;50,30;30,30"/></image>
    <image id="1" name="b.jpg" width="{WIDTH}" height="{HEIGHT}">
      <polygon label="sign" group_id="7" points="{points[0]}"/><polygon label="sign" group_id="7" points="{points[1]}"/>
      <mask label="bus stop" rle="{", ".join(map(str, runs))}" left="38" top="18" width="14" height="14"/></image>
    </annotations>"""
    (source / "all.xml").write_text(text)
    content = convert("cvat", source / "all.xml", images).build()
    assert [c["name"] for c in content["categories"]] == ["sign", "bus stop"]
    run = content["annotations"].pop()
    assert (mask_util.decode(run["segmentation"]).astype(bool) == mask).all() and run["bbox"] == [40, 20, 10, 10]
    assert_same(content, masks=True)


def test_semantic_masks_become_instances(folders):
    source, images = folders
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[5:20, 5:10] = labels[30:40, 50:70] = 7
    labels[20:25, 10:15] = 7  # touches the first at a corner: one object
    labels[50:58, 10:30] = 9
    labels[0, 70] = 9
    cv2.imwrite(str(source / "a.png"), labels)
    (source / "classes.yaml").write_text("7: sign\n9: bus stop\n")
    builder = convert("png", source, images, source / "classes.yaml")
    content = builder.build()
    assert_sound(content)
    assert [(n, b) for _, n, b, _ in objects(content)] == [
        ("sign", [5, 5, 10, 20]),
        ("sign", [50, 30, 20, 10]),
        ("bus stop", [10, 50, 20, 8]),
    ]
    back = np.zeros_like(labels)
    for a in content["annotations"]:
        back[mask_util.decode(a["segmentation"]) > 0] = {"sign": 7, "bus stop": 9}[NAMES[a["category_id"] - 1]]
    labels[0, 70] = 0
    assert (back == labels).all() and list(builder.skipped.values()) == [1]


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("yolo", "a.txt", "0 0.5 0.5 x 1\n", r"a\.txt, line 1: .*expected numbers"),
        ("yolo", "a.txt", "\n5 0.5 0.5 1 1\n", r"a\.txt, line 2: class 5"),
        ("yolo", "a.txt", "0 1 2 3 4 5\n", "5 numbers; expected 4"),
        ("voc", "a.xml", "<annotation>", r"a\.xml"),
        ("labelme", "a.json", "{}", r"a\.json: no labelme file"),
        ("labelme", "a.json", '{"imagePath": "../../etc/passwd", "shapes": []}', "which is not in"),
        ("cvat", "a.xml", '<a><image name="a.jpg" width="9"/></a>', "image 'a.jpg': KeyError 'height'"),
        ("png", "a.png", "no picture", r"a\.png"),
    ],
)
def test_broken_files_are_named(folders, name, file, text, message):
    source, images = folders
    (source / file).write_text(text)
    with pytest.raises(ConversionError, match=message):
        convert(name, source / file if name == "cvat" else source, images, NAMES)


@pytest.mark.parametrize("name", ["yolo", "png"])
def test_formats_of_numbers_ask_for_names(folders, name):
    with pytest.raises(ConversionError, match="--classes"):
        convert(name, *folders)


def test_the_tool(folders, capsys):
    source, images = folders
    (source / "a.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    (source / "names.txt").write_text("sign\nbus stop\n")
    output = source.parent / "out" / "train.json"
    options = ["--images", str(images), "--classes", str(source / "names.txt"), "--output", str(output)]
    assert load_tool("convert_dataset").main(["yolo", str(source), *options]) == 0
    assert "3 images, 1 objects, 0 of them with a mask" in capsys.readouterr().out
    assert objects(json.loads(output.read_text()))[0][1] == "bus stop"
