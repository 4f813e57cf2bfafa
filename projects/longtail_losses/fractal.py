"""What FRACAL measures on the training files: the fractal dimension of where a class's boxes lie, and image shares."""

import logging

import numpy as np
from detectron2.config import CfgNode

from reg_d2.data.catalog import find_entries, read_catalog
from reg_d2.data.coco import check_same_classes, read_coco

logger = logging.getLogger("reg_d2.longtail_losses")  # below the logger that the tools print


def fractal_dimension(centers: np.ndarray, max_grid: int = 64) -> float:
    """Slope of log N(G) over log G, N(G) the cells of a G x G grid over the image with a centre in them.

    G goes from 1 to the largest with G^2 <= n, at most ``max_grid``.

    Args:
        centers: (n, 2) box centres over width and height, in [0, 1].
        max_grid: >= 2.

    Returns:
        At least 1; 1 for less than 4 boxes.

    Source: the code of Alexandridis et al., 2025 (variant ``box_dim``).
    """
    if len(centers) < 4:
        return 1.0
    grids = np.arange(1, min(max_grid, int(np.sqrt(len(centers)))) + 1)
    cells = [np.clip((centers * g).astype(int), 0, g - 1) for g in grids]
    occupied = [len(np.unique(c[:, 0] * g + c[:, 1])) for c, g in zip(cells, grids, strict=True)]
    slope, _ = np.polyfit(np.log(grids), np.log(occupied), 1)
    return max(1.0, float(slope))


def training_statistics(cfg: CfgNode) -> tuple[list[float], list[float]]:
    """Of each class of ``MODEL.REG.CLASS_NAMES`` in ``DATASETS.TRAIN``, crowds left out: C numbers each.

    Returns:
        Fractal dimensions, >= 1, and the shares of the images that show the class, in [0, 1], as the files have them:
        a sampler changes neither.

    Raises:
        ValueError: there are no training files, they cannot be read, have other classes, or no box of one.
    """
    names = list(cfg.MODEL.REG.CLASS_NAMES)
    centers: dict[str, list] = {name: [] for name in names}
    showing: dict[str, set] = {name: set() for name in names}
    num_images = 0
    try:
        if not cfg.DATASETS.TRAIN:
            raise ValueError("no data set is named")
        for entry in find_entries(read_catalog(cfg.DATASETS.CATALOG), cfg.DATASETS.TRAIN):
            for source in entry.sources:
                coco = read_coco(source.json)
                check_same_classes(names, tuple(coco.categories.values()), "the model", coco.path)
                size = {image["id"]: (image["width"], image["height"]) for image in coco.images}
                num_images += len(size)
                for annotation in coco.annotations:
                    if not annotation.get("iscrowd", 0):
                        (x, y, w, h), (width, height) = annotation["bbox"], size[annotation["image_id"]]
                        name = coco.categories[annotation["category_id"]]
                        centers[name].append(((x + w / 2) / width, (y + h / 2) / height))
                        showing[name].add((coco.path, annotation["image_id"]))
        if empty := [name for name in names if not centers[name]]:
            raise ValueError(f"there is none of {', '.join(map(repr, empty))}: remove the class from its categories")
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"FRACAL needs the boxes of DATASETS.TRAIN {tuple(cfg.DATASETS.TRAIN)}: {error}\nWithout them, write into "
            "MODEL.REG.PEERS.FRACAL.DIMENSIONS what a run with the data logs"
        ) from None
    dimensions = [round(fractal_dimension(np.array(centers[name])), 4) for name in names]
    shares = [float(f"{len(showing[name]) / num_images:.6g}") for name in names]
    given = [list(pair) for pair in zip(dimensions, shares, strict=True)]
    logger.info(f"MODEL.REG.PEERS.FRACAL.DIMENSIONS {given} ({', '.join(names)})")
    return dimensions, shares
