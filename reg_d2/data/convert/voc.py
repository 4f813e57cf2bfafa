"""Pascal VOC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .builder import CocoBuilder, ConversionError, at, pixels
from .files import find_image, list_files, open_picture, read_xml


@dataclass(frozen=True)
class _Record:
    """One XML file.

    Attributes:
        file_name: of the image.
        size: (width, height); None where the file does not say it, or says 0.
        original: it says that it is of the VOC challenge.
        objects: (class, difficult, [xmin, ymin, xmax, ymax]).
    """

    file_name: str
    size: tuple[int, int] | None
    original: bool
    objects: list[tuple[str, bool, list[float]]]


def from_voc(source: Path, images: Path, classes: dict[int, str]) -> CocoBuilder:
    """A folder of Pascal VOC XML files: boxes.

    The VOC challenge counts pixels from 1, and a box's last pixel belongs to it: there 1, 1, 40, 20 is all of a 40x20
    picture, and 1 is taken from xmin and ymin, as Detectron2 does. The tools that write this format (labelImg, CVAT,
    Roboflow, globox) write edges, from 0 on; their files do not show it, for labelImg makes a 1 of each 0. So 1 is
    taken only in files whose ``<source>`` names the challenge (VOC2007, ...), and in none of them where a box of one
    begins at 0: scripts copy that name.

    A difficult object becomes a crowd region: it is not trained, and a detection on it is not counted, as in VOC's
    evaluation.
    """
    builder = CocoBuilder(classes.values())
    records = {}
    for path in list_files(source, ".xml"):
        with at(path):
            records[path] = _read(path)
    zero = any(min(box[:2]) < 1 for r in records.values() if r.original for _, _, box in r.objects)
    for path, record in records.items():
        shift = int(record.original and not zero)
        with at(path):
            name = find_image(images, record.file_name, path, source)
            image = builder.add_image(name, open_picture(images / name), record.size)
            for label, difficult, (x1, y1, x2, y2) in record.objects:
                builder.add_box(image, label, x1 - shift, y1 - shift, x2, y2, crowd=difficult)
                if difficult:
                    builder.notes["difficult objects became crowd regions, which are neither trained nor counted"] += 1
                if shift:
                    builder.notes["boxes of the VOC challenge, which counts pixels from 1, now count from 0"] += 1
    return builder


def _read(path: Path) -> _Record:
    root = read_xml(path)
    size = [int(float(root.findtext(f"size/{k}") or 0)) for k in ("width", "height")]
    objects = []
    for number, node in enumerate(root.iter("object"), start=1):
        with at(f"object {number}"):
            texts = [node.findtext(f"bndbox/{k}") for k in ("xmin", "ymin", "xmax", "ymax")]
            if None in texts:
                raise ConversionError("no bndbox with xmin, ymin, xmax and ymax")
            box = pixels(texts)
            if box[2] < box[0] or box[3] < box[1]:
                raise ConversionError(f"xmin, ymin, xmax, ymax are {box}: the maximum is below the minimum")
            objects.append(((node.findtext("name") or "").strip(), node.findtext("difficult") == "1", box))
    source = root.find("source")
    original = source is not None and re.search(r"VOC\s?20\d\d", " ".join(source.itertext())) is not None
    return _Record((root.findtext("filename") or "").strip(), tuple(size) if all(size) else None, original, objects)
