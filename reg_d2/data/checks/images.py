"""Opening every picture, in parallel: is it there, whole, of the JSON's size, and what does it look like."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from .findings import Finding
from .structure import Columns, shown

_ORIENTATION, _SOFTWARE, _MAKE = 0x0112, 0x0131, 0x010F  # EXIF tags
SWAPPING = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_HASH_SIDE = 8
_ADDRESS = re.compile(r" <_io\.BytesIO object at 0x[0-9a-f]+>")  # what we read from, in Pillow's words


@dataclass(frozen=True)
class ImageFacts:
    """What opening a file showed.

    Attributes:
        problem: "", or one of the kinds image_missing, image_truncated, image_unreadable.
        detail: the reader's message.
        width, height: pixels as stored, before EXIF turns them.
        orientation: EXIF's, 1..8; 1: as stored.
        software: what EXIF says of the program or camera.
        digest: of the file's bytes; equal for equal files.
        hash: (128,) bool, the difference hash; None for a picture without any contrast.
    """

    problem: str = ""
    detail: str = ""
    width: int = 0
    height: int = 0
    orientation: int = 1
    software: str = ""
    digest: bytes = b""
    hash: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as Detectron2 reads it, turned by EXIF."""
        swap = self.orientation in SWAPPING
        return (self.height, self.width) if swap else (self.width, self.height)


def inspect_images(paths: Sequence[Path], workers: int | None = None) -> list[ImageFacts]:
    """Open pictures in parallel threads, with a progress bar where standard error is a terminal.

    Args:
        paths: files.
        workers: threads; default: the CPUs that this process may use.
    """
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        facts = pool.map(inspect_image, paths)
        hidden = not sys.stderr.isatty()
        return list(tqdm(facts, total=len(paths), unit="image", dynamic_ncols=True, disable=hidden))


def inspect_image(path: Path) -> ImageFacts:
    """Read one picture to its end."""
    if not os.path.isfile(path):  # also keeps us from waiting at a pipe
        return ImageFacts("image_missing", _look_alike(path))
    # Pillow raises nearly anything on a broken file: struct.error, SyntaxError, zlib.error, OverflowError ...
    try:
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(data)
    except Exception as error:
        kind = "image_truncated" if "truncated" in str(error).lower() else "image_unreadable"
        text = _ADDRESS.sub("", str(error))
        return ImageFacts(kind, shown(f"{type(error).__name__}: {text}", 120))


def check_images(columns: Columns, facts: dict[str, ImageFacts]) -> list[Finding]:
    """Pictures that cannot be read, or are not of the size that the JSON says.

    Args:
        columns: of the file.
        facts: of each file name; images whose name is not among them are not looked at.
    """
    rows, details = defaultdict(list), {}
    for i, name in enumerate(columns.file_names):
        if fact := facts.get(name):
            kind, detail = _judge(fact, tuple(columns.sizes[i].tolist()))
            if kind:
                rows[kind].append(i)
                details.setdefault(kind, f"{name}: {detail}" if detail else "")
    return [
        Finding(kind, columns.image_rows[index], [columns.file_names[i] for i in index], details[kind])
        for kind, index in rows.items()
    ]


def _judge(fact: ImageFacts, size: tuple[int, int]) -> tuple[str, str]:
    if fact.problem:
        return fact.problem, fact.detail
    stored = (fact.width, fact.height)
    by = f", written by {fact.software}" if fact.software else ""
    if size == fact.size:
        unseen = fact.orientation > 1 and fact.size == stored  # mirrored, turned by 180 degrees, or square
        return ("image_exif_turned", f"orientation {fact.orientation}{by}") if unseen else ("", "")
    text = "JSON {}x{}, file {}x{}".format(*size, *fact.size)
    if size == stored:
        return "image_exif_rotated", f"{text}, EXIF orientation {fact.orientation}{by}"
    return "image_size_differs", text + (", width and height exchanged" if size == fact.size[::-1] else "")


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an open picture, 1 to 8; 1 where it has none, or none of these."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _read(data: bytes) -> ImageFacts:
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        exif = image.getexif()
        software = exif.get(_SOFTWARE) or exif.get(_MAKE) or ""
        # A JPEG is decoded at an eighth of its size: all of the file is read, most of the arithmetic is not done.
        image.draft("L", (4 * _HASH_SIDE, 4 * _HASH_SIDE))
        image.load()
        return ImageFacts(
            width=width,
            height=height,
            orientation=orientation_of(image),
            software=shown(str(software).strip("\0 "), 40),
            digest=hashlib.blake2b(data, digest_size=16).digest(),
            hash=difference_hash(image),
        )


def difference_hash(image: Image.Image) -> np.ndarray | None:
    """(128,) bool: of an 8 x 8 grid of mean brightness, whether each right and each lower neighbour is brighter.

    None for a picture without contrast, whose hash would be that of every other such picture.
    """
    side = _HASH_SIDE + 1
    grid = np.asarray(image.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.int16)
    if grid.std() < 2:
        return None
    return np.concatenate([(grid[:-1, 1:] > grid[:-1, :-1]).ravel(), (grid[1:, :-1] > grid[:-1, :-1]).ravel()])


def _look_alike(path: Path) -> str:
    """A file beside the missing one whose name differs in case or ending only."""
    try:
        near = [p.name for p in path.parent.iterdir() if p.stem.lower() == path.stem.lower()]
    except OSError:
        return f"the folder {path.parent} is not there" if not path.parent.is_dir() else ""
    return f"there is {near[0]}" if near else ""
