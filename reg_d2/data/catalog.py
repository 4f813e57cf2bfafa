"""The catalogue of data sets: a YAML file, registered with Detectron2 under the names it gives.

    track_signs_train:
      json: track_signs/instances_train.json
      images: track_signs/train

A list of several such under one name is one training set; evaluation takes one file.
Paths are relative to ``$REG_D2_DATASETS`` (default ``datasets/``) unless absolute.
"""

import difflib
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from .coco import ClassInfo, read_coco, to_dataset_dicts
from .strict_yaml import read_yaml

ROOT_VARIABLE = "REG_D2_DATASETS"
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class CatalogEntry:
    """One data set: its name, COCO file and image folder, with paths resolved.

    Attributes:
        name, json, images: as said.
        more: (COCO file, image folder) of further sources, which are taken together with the first in training.
    """

    name: str
    json: Path
    images: Path
    more: tuple[tuple[Path, Path], ...] = ()

    @property
    def sources(self) -> tuple["CatalogEntry", ...]:
        """Each COCO file by itself; where there are several, numbered from 1 in its name."""
        if not self.more:
            return (self,)
        every = ((self.json, self.images), *self.more)
        return tuple(CatalogEntry(f"{self.name}, source {i}", *source) for i, source in enumerate(every, start=1))


def dataset_root() -> Path:
    """``$REG_D2_DATASETS``, or ``datasets`` in the working directory."""
    return Path(os.environ.get(ROOT_VARIABLE) or "datasets").expanduser()


def read_catalog(path: str | os.PathLike) -> dict[str, CatalogEntry]:
    """Parse a catalogue.

    Args:
        path: YAML file; a relative path is looked up from the working directory, then from the repository.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: broken YAML, a name twice, or not a mapping of names to ``json`` and ``images``, each a path, or to
            lists of these.
    """
    candidates = [Path(path), REPOSITORY / path]
    found = next((p for p in candidates if p.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"catalogue {path} (DATASETS.CATALOG) does not exist; tried {candidates}")
    try:
        content = read_yaml(found) or {}
    except ValueError as error:
        raise ValueError(f"catalogue {found}: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"catalogue {found}: expected a mapping of data set names, got {type(content).__name__}")
    entries = {}
    for name, value in content.items():
        sources = value if isinstance(value, list) and value else [value]
        if not all(map(_is_source, sources)):
            raise ValueError(
                f"catalogue {found}: {name!r} needs exactly the keys json and images, each a path, or a list of such, "
                f"got {value!r}"
            )
        first, *more = [(dataset_root() / source["json"], dataset_root() / source["images"]) for source in sources]
        entries[name] = CatalogEntry(name, *first, tuple(more))
    return entries


def _is_source(value) -> bool:
    return isinstance(value, dict) and set(value) == {"json", "images"} and all(type(x) is str for x in value.values())


def find_entries(catalog: dict[str, CatalogEntry], names: Sequence[str]) -> list[CatalogEntry]:
    """The entries of some names.

    Raises:
        KeyError: a name that the catalogue lacks, with the nearest and all valid ones.
    """
    for name in names:
        if name not in catalog:
            near = difflib.get_close_matches(name, catalog, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise KeyError(f"data set {name!r} is not in the catalogue.{hint} It has: {', '.join(sorted(catalog))}")
    return [catalog[name] for name in names]


def resolve(names: Sequence[str], catalog: str | os.PathLike) -> list[CatalogEntry]:
    """Data sets as a command line names them: by their name in the catalogue, or as ``COCO_FILE:IMAGE_FOLDER``; of a
    name with several sources, each.

    Raises:
        KeyError: a name that the catalogue lacks.
    """
    entries = []
    for name in names:
        json_file, colon, images = name.rpartition(":")
        if colon:
            entries.append(CatalogEntry(name, Path(json_file), Path(images)))
        else:
            entries += find_entries(read_catalog(catalog), [name])[0].sources
    return entries


def training_classes(entries: Sequence[CatalogEntry]) -> ClassInfo:
    """Classes and counts of one or more training sets together, matched by name.

    Raises:
        ClassMismatchError: two of the sets have different classes.
        ValueError: no set, or no classes.
    """
    if not entries:
        raise ValueError("DATASETS.TRAIN is empty: name at least one data set of the catalogue")
    total, *others = [read_coco(source.json).class_info() for entry in entries for source in entry.sources]
    for info in others:
        total = total + info
    if not total.names:
        raise ValueError(f"{entries[0].json} has no categories: there is nothing to learn")
    return total


def register(entry: CatalogEntry, classes: ClassInfo) -> None:
    """Register a data set with Detectron2, its classes matched by name to the model's; again with the same name
    replaces it.

    Metadata: ``json_file``, ``image_root``, ``thing_classes``, ``thing_dataset_id_to_contiguous_id``,
    ``mask_classes``, ``evaluator_type``.

    Raises:
        ClassMismatchError: the file's classes are not the model's.
    """
    coco = read_coco(entry.json)
    dicts = to_dataset_dicts(coco, entry.images, classes.names)
    for source in entry.sources[1:]:
        dicts += to_dataset_dicts(read_coco(source.json), source.images, classes.names)
    if entry.more:
        dicts = [{**record, "image_id": i} for i, record in enumerate(dicts, start=1)]
    # Kept as bytes: a million small objects would be copied, page by page, into every data worker.
    packed = pickle.dumps(dicts, protocol=pickle.HIGHEST_PROTOCOL)
    if entry.name in DatasetCatalog.list():
        DatasetCatalog.remove(entry.name)
    if entry.name in MetadataCatalog.list():
        MetadataCatalog.remove(entry.name)
    DatasetCatalog.register(entry.name, lambda: pickle.loads(packed))
    MetadataCatalog.get(entry.name).set(
        json_file=str(entry.json),
        image_root=str(entry.images),
        thing_classes=list(classes.names),
        thing_dataset_id_to_contiguous_id={i: classes.names.index(name) for i, name in coco.categories.items()},
        mask_classes=list(classes.mask_classes),
        evaluator_type="reg_coco",
    )
