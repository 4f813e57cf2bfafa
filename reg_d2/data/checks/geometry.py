"""How an annotation moves with its picture, and how a broken polygon is mended."""

from __future__ import annotations

import cv2
import numpy as np
import pycocotools.mask as mask_util
import shapely

from .masks import FLAT_AREA, crossing

# EXIF orientation -> what it does to a point of a picture (w, h as stored), and to an (h, w) array.
_POINT = {
    5: lambda x, y, w, h: (y, x),
    6: lambda x, y, w, h: (h - y, x),
    7: lambda x, y, w, h: (h - y, w - x),
    8: lambda x, y, w, h: (y, w - x),
}
_ARRAY = {
    5: lambda mask: mask.T,
    6: lambda mask: np.rot90(mask, -1),
    7: lambda mask: np.rot90(mask, 2).T,
    8: lambda mask: np.rot90(mask),
}


def turned(annotation: dict, orientation: int, size: tuple[int, int]) -> dict:
    """The annotation of a picture that EXIF turns by a right angle (``orientation`` 5..8); ``size``: as stored."""
    return _moved(annotation, lambda x, y: _POINT[orientation](x, y, *size), _ARRAY[orientation])


def scaled(annotation: dict, old: tuple[int, int], new: tuple[int, int]) -> dict:
    """The annotation of a picture that was resized from ``old`` to ``new``, (width, height) in pixels."""
    fx, fy = new[0] / old[0], new[1] / old[1]
    resize = lambda mask: cv2.resize(mask, new, interpolation=cv2.INTER_NEAREST)  # noqa: E731
    return _moved(annotation, lambda x, y: (x * fx, y * fy), resize)


def _moved(annotation: dict, point, array) -> dict:
    x, y, w, h = annotation["bbox"]
    (x1, y1), (x2, y2) = point(x, y), point(x + w, y + h)
    result = {**annotation, "bbox": [min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)]}
    result.pop("area", None)
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        mask = np.asfortranarray(array(mask_util.decode(compressed(segmentation))))
        run = mask_util.encode(mask)
        result["segmentation"] = {"size": [int(n) for n in run["size"]], "counts": run["counts"].decode("ascii")}
    elif segmentation:
        moved = [[point(*xy) for xy in zip(p[::2], p[1::2], strict=True)] for p in segmentation]
        result["segmentation"] = [[float(v) for xy in polygon for v in xy] for polygon in moved]
    return result


def compressed(rle: dict) -> dict:
    """An RLE in the form that pycocotools decodes."""
    return mask_util.frPyObjects(rle, *rle["size"]) if isinstance(rle["counts"], list) else rle


def mended(polygon: list, width: int, height: int) -> list[list[float]]:
    """A polygon cut at the image's edges and split where it crosses itself, as polygons that do neither.

    Everything that its line encloses is kept. [] where nothing with an area is left.
    """
    points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    try:
        if crossing(points, np.zeros(len(points), dtype=np.int64))[0]:
            faces = shapely.polygonize([shapely.node(shapely.linearrings(points))])
            shape = shapely.union_all(shapely.get_parts(faces))
        else:
            shape = shapely.make_valid(shapely.polygons(points))
        shape = shapely.intersection(shape, shapely.box(0, 0, width, height))
    except shapely.GEOSException:
        return []
    parts = [p for p in shapely.get_parts(shape) if p.geom_type == "Polygon" and p.area >= FLAT_AREA]
    rings = [shapely.get_coordinates(shapely.get_exterior_ring(p))[:-1] for p in parts]
    good = [ring for ring in rings if len(ring) >= 3 and not crossing(ring, np.zeros(len(ring), dtype=np.int64))[0]]
    return [ring.ravel().tolist() for ring in good]
