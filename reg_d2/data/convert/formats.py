"""The formats: each is a function (source, image folder, classes) -> CocoBuilder.

These few fields are read here and not by a library: globox turns masks into boxes and drops what VOC says of an
object; and supervision gives every box-only object of an image a rectangle for a mask as soon as one object has a
polygon, which would teach the mask head rectangles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .builder import CocoBuilder
from .classes import read_classes
from .numbered import from_png_masks, from_yolo
from .shapes import from_cvat, from_labelme
from .voc import from_voc

FORMATS: dict[str, Callable[[Path, Path, dict[int, str]], CocoBuilder]] = {
    "yolo": from_yolo,
    "voc": from_voc,
    "labelme": from_labelme,
    "cvat": from_cvat,
    "png": from_png_masks,
}


def convert(name: str, source: Path, images: Path, classes: Sequence[str] | Path | None = None) -> CocoBuilder:
    """Convert annotations.

    Args:
        name: a key of :data:`FORMATS`.
        source: the file or folder of annotations.
        images: the image folder; file names are relative to it.
        classes: names in order, or a file: YOLO's ``data.yaml``, or one name a line. For PNG masks a YAML mapping of
            pixel value to name. Needed for YOLO and PNG masks, which hold numbers only.

    Raises:
        ConversionError: with the file and what is wrong in it.
        FileNotFoundError: source or images are not there.
    """
    for path in (source, images):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
    return FORMATS[name](source, images, read_classes(classes))
