"""Finding and opening the files of a data set."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from PIL import Image

from ..checks.images import ImageFacts, orientation_of
from .builder import ConversionError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def find_images(folder: Path) -> list[Path]:
    """All images below a folder, in order.

    Raises:
        ConversionError: there are none.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise ConversionError(f"no images in {folder}; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    return found


def list_files(folder: Path, suffix: str) -> list[Path]:
    """All files below a folder that end in ``suffix``, in order.

    Raises:
        ConversionError: there are none.
    """
    found = sorted(folder.rglob(f"*{suffix}"))
    if not found:
        raise ConversionError(f"no {suffix} files in {folder}")
    return found


def pair_files(images: Path, source: Path, suffix: str) -> tuple[list[tuple[str, Path | None]], list[Path]]:
    """Each image's name and the file in ``source`` of the same folder and stem, None where it has none; and the files
    that no image has. ``classes.txt`` is not among these, for labelImg writes its class list there.

    Raises:
        ConversionError: two images have the same file, or no image has one.
    """
    pairs, owner = [], {}
    for path in find_images(images):
        name = path.relative_to(images)
        file = source / name.with_suffix(suffix)
        if not file.is_file():
            pairs.append((name.as_posix(), None))
            continue
        if file in owner:
            raise ConversionError(f"{file} belongs to two images, {owner[file]} and {name}: which of them?")
        owner[file] = name
        pairs.append((name.as_posix(), file))
    if not owner:
        raise ConversionError(f"no {suffix} file in {source} has the name of an image in {images}")
    rest = sorted(p for p in source.rglob(f"*{suffix}") if p not in owner and p.name != "classes.txt")
    return pairs, rest


def find_image(folder: Path, name: str, source: Path | None = None, root: Path | None = None) -> str:
    """The path, relative to ``folder``, of the image that an annotation file names.

    Args:
        folder: of the images.
        name: of the image, perhaps with a folder of another machine.
        source: the file that names it, where the name may be relative to that. The image is then looked for beside it
            and in the same folder below ``folder`` first: drives often have the same file names.
        root: the folder of annotations that ``source`` lies in.

    Raises:
        ConversionError: it is not there.
    """
    name = name.replace("\\", "/")
    last = name.rsplit("/", 1)[-1]
    places = [folder / name, folder / last]
    if source is not None:
        same = folder / source.parent.relative_to(root)
        places = [source.parent / name, same / name, folder / name, same / last, folder / last]
    for place in places:
        path = Path(os.path.relpath(place, folder))
        if ".." not in path.parts and (folder / path).is_file():
            return path.as_posix()
    raise ConversionError(f"it names the image {name!r}, which is not in {folder}")


def open_picture(path: Path) -> ImageFacts:
    """Size and orientation, from the picture's header.

    Raises:
        ConversionError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            (width, height), orientation = image.size, orientation_of(image)
    except Exception as error:  # Pillow raises nearly anything on a broken file
        raise ConversionError(f"{path} cannot be read as an image: {error}") from None
    return ImageFacts(width=width, height=height, orientation=orientation)


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        ConversionError: it is none.
    """
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ConversionError(f"no XML file: {error}") from None
