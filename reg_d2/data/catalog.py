"""The catalogue of data sets: a YAML file, registered with Detectron2 under the names it gives.

    track_signs_train:
      json: track_signs/instances_train.json
      images: track_signs/train

Paths are relative to ``$REG_D2_DATASETS`` (default ``datasets/``) unless absolute.
"""

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

from .coco import ClassInfo, read_coco, to_dataset_dicts

ROOT_VARIABLE = "REG_D2_DATASETS"
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class CatalogEntry:
    """One data set: its name, COCO file and image folder, with paths resolved."""

    name: str
    json: Path
    images: Path


def dataset_root() -> Path:
    """``$REG_D2_DATASETS``, or ``datasets`` in the working directory."""
    return Path(os.environ.get(ROOT_VARIABLE) or "datasets").expanduser()


def read_catalog(path: str | os.PathLike) -> dict[str, CatalogEntry]:
    """Parse a catalogue.

    Args:
        path: YAML file; a relative path is looked up from the working directory, then from the repository.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a mapping of names to ``json`` and ``images``, each a path.
    """
    candidates = [Path(path), REPOSITORY / path]
    found = next((p for p in candidates if p.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"catalogue {path} (DATASETS.CATALOG) does not exist; tried {candidates}")
    content = yaml.safe_load(found.read_text()) or {}
    if not isinstance(content, dict):
        raise ValueError(f"catalogue {found}: expected a mapping of data set names, got {type(content).__name__}")
    entries = {}
    for name, value in content.items():
        if not isinstance(value, dict) or set(value) != {"json", "images"}:
            raise ValueError(f"catalogue {found}: {name!r} needs exactly the keys json and images, got {value!r}")
        entries[name] = CatalogEntry(name, dataset_root() / value["json"], dataset_root() / value["images"])
    return entries


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
    """Data sets as a command line names them: by their name in the catalogue, or as ``COCO_FILE:IMAGE_FOLDER``.

    Raises:
        KeyError: a name that the catalogue lacks.
    """
    entries = []
    for name in names:
        json_file, colon, images = name.rpartition(":")
        if colon:
            entries.append(CatalogEntry(name, Path(json_file), Path(images)))
        else:
            entries += find_entries(read_catalog(catalog), [name])
    return entries


def training_classes(entries: Sequence[CatalogEntry]) -> ClassInfo:
    """Classes and counts of one or more training sets together, matched by name.

    Raises:
        ClassMismatchError: two of the sets have different classes.
        ValueError: no set, or no classes.
    """
    if not entries:
        raise ValueError("DATASETS.TRAIN is empty: name at least one data set of the catalogue")
    total, *others = [read_coco(entry.json).class_info() for entry in entries]
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
    if entry.name in DatasetCatalog.list():
        DatasetCatalog.remove(entry.name)
    if entry.name in MetadataCatalog.list():
        MetadataCatalog.remove(entry.name)
    DatasetCatalog.register(entry.name, lambda: dicts)
    MetadataCatalog.get(entry.name).set(
        json_file=str(entry.json),
        image_root=str(entry.images),
        thing_classes=list(classes.names),
        thing_dataset_id_to_contiguous_id={i: classes.names.index(name) for i, name in coco.categories.items()},
        mask_classes=list(classes.mask_classes),
        evaluator_type="reg_coco",
    )
