"""Masks without decoding any: polygons and RLEs, against the image, the box and the area field."""

from __future__ import annotations

from itertools import chain

import numpy as np
import shapely

from .boxes import TOLERANCE
from .findings import Finding
from .rle import list_runs, run_statistics, string_runs
from .structure import MAX_COORDINATE, MAX_ID, Collector, Columns, are_numbers, floats

FLAT_AREA = 1e-3  # px^2 below which a polygon encloses nothing
_AREA_RATIO, _AREA_SLACK = 0.25, 8.0  # how far areas may differ: in parts, plus pixels
_LEAST_IOU, _EDGE_SLACK = 0.5, 3.0  # boxes disagree below this overlap, where an edge is off by more pixels than this


class Masks:
    """Areas and boxes of a file's masks, and what is wrong with them.

    Attributes:
        usable: (A,) bool, the object has a mask that can be trained on.
        area: (A,) float64, px^2 of usable masks, else 0. Parts of one object count where they overlap, too.
        boxes: (A, 4) float64, x1 y1 x2 y2 of usable masks, else NaN.
        findings: about the masks themselves.
    """

    def __init__(self, columns: Columns):
        number = len(columns.segmentations)
        self._columns = columns
        self._found = Collector()
        self.usable = np.zeros(number, dtype=bool)
        self.area = np.zeros(number)
        self.boxes = np.full((number, 4), np.nan)
        polygons, runs = self._sort()
        self._check_polygons(*polygons)
        self._check_runs(runs)
        self.findings = self._found.findings()

    def _add(self, kind: str, index, detail: str = "") -> None:
        for i in sorted(set(np.ravel(index).tolist())):
            self._found.add(kind, int(self._columns.annotation_rows[i]), self._columns.annotation_ids[i], detail)

    def _sort(self) -> tuple[tuple[list, list], list]:
        """Polygons with their owners, and the indices of objects with an RLE; reports what is neither."""
        polygons, owners, runs, malformed, short = [], [], [], [], []
        for i, value in enumerate(self._columns.segmentations):
            if value is None or value == []:
                continue
            if type(value) is dict:
                runs.append(i)
            elif type(value) is not list or not all(type(p) is list and are_numbers(p) for p in value):
                malformed.append(i)
            else:
                for polygon in value:
                    if is_short(polygon):
                        short.append(i)
                    else:
                        polygons.append(polygon)
                        owners.append(i)
        self._add("mask_malformed", malformed)
        self._add("polygon_short", short)
        return (polygons, owners), runs

    def _check_polygons(self, polygons: list, owners: list) -> None:
        if not polygons:
            return
        owner = np.array(owners)
        points = floats(list(chain.from_iterable(polygons))).reshape(-1, 2)
        length = np.array([len(p) // 2 for p in polygons])
        starts = np.cumsum(length) - length
        finite = np.logical_and.reduceat((np.abs(points) <= MAX_COORDINATE).all(1), starts)
        self._add("mask_malformed", owner[~finite], "a number is not finite")
        points[~np.repeat(finite, length)] = 0.0
        low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
        area = _shoelace(points, starts, length)
        flat = finite & (area < FLAT_AREA)
        # The two halves of a bow tie cancel, but it has an area.
        flat[flat] = [hull_area(polygons[i]) < FLAT_AREA for i in np.flatnonzero(flat)]
        self._add("polygon_flat", owner[flat])
        sound = finite & ~flat
        size = self._columns.sizes[self._columns.image[owner]]
        outside = sound & ((low < -TOLERANCE) | (high > size + TOLERANCE)).any(1)
        self._add("polygon_outside", owner[outside])
        self._add("polygon_crossing", owner[sound & crossing(points, np.repeat(np.arange(len(length)), length))])
        sound &= ~np.isin(owner, owner[~finite])
        np.add.at(self.area, owner[sound], area[sound])
        self.usable[owner[sound]] = True
        bounds = np.tile([np.inf, np.inf, -np.inf, -np.inf], (len(self.area), 1))
        np.minimum.at(bounds, (owner[sound], slice(0, 2)), low[sound])
        np.maximum.at(bounds, (owner[sound], slice(2, 4)), high[sound])
        self.boxes[self.usable] = bounds[self.usable]

    def _check_runs(self, owners: list) -> None:
        """RLEs: of the format, of the image's size, filling it, and not empty."""
        columns, strings, lists = self._columns, [], []
        for i in owners:
            record = columns.segmentations[i]
            size, counts = record.get("size"), record.get("counts")
            width, height = columns.sizes[columns.image[i]].tolist()
            if type(size) is not list or len(size) != 2 or type(counts) not in (str, list):
                self._add("mask_malformed", i)
            elif size != [height, width]:
                self._add("rle_size", i, f"annotation {columns.annotation_ids[i]}: image {[height, width]}")
            elif type(counts) is str:
                strings.append((i, counts.encode("utf-8", "surrogatepass")))
            elif not set(map(type, counts)) <= {int} or any(not 0 <= n < MAX_ID for n in counts):
                self._add("rle_corrupt", i)
            else:
                lists.append((i, counts))
        for group, decode in ((strings, string_runs), (lists, list_runs)):
            if not group:
                continue
            owner = np.array([i for i, _ in group])
            runs, of, *readable = decode([counts for _, counts in group])
            width, height = columns.sizes[columns.image[owner]].T
            sound, area, boxes = run_statistics(runs, of, height, width)
            for ok in readable:
                sound &= ok
            self._add("rle_corrupt", owner[~sound])
            self._add("rle_empty", owner[sound & (area == 0)])
            usable = sound & (area > 0)
            self.usable[owner[usable]] = True
            self.area[owner[usable]] = area[usable]
            self.boxes[owner[usable]] = boxes[usable]


def is_short(polygon: list) -> bool:
    """Whether a list of coordinates is less than a polygon: fewer than three points, or half a point."""
    return len(polygon) < 6 or len(polygon) % 2 == 1


def hull_area(polygon: list) -> float:
    """px^2 of a polygon's convex hull: 0 where all its points are on one line."""
    points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    return float(shapely.area(shapely.convex_hull(shapely.multipoints(points - points[0]))))


def check_agreement(columns: Columns, masks: Masks) -> list[Finding]:
    """Box against mask, and the area field against both; crowd regions are left out."""
    box, plain = columns.boxes, ~columns.crowd
    corners = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)
    positive = (box[:, 2:] > 0).all(1)
    with np.errstate(invalid="ignore"):
        apart = _iou(corners, masks.boxes) < _LEAST_IOU
        apart &= np.abs(corners - masks.boxes).max(1) > _EDGE_SLACK
        expected = np.where(masks.usable, masks.area, box[:, 2] * box[:, 3])
        # Without a mask the area may be that of one that was not given: anything up to the box's.
        low = np.where(masks.usable, (1 - _AREA_RATIO) * expected - _AREA_SLACK, 0.0)
        differs = (columns.area < low) | (columns.area > (1 + _AREA_RATIO) * expected + _AREA_SLACK)
    missing = np.isnan(columns.area)
    kinds = {
        "box_mask_disagree": apart & plain & masks.usable & positive,
        "area_missing": missing & plain & positive,
        "area_disagree": differs & ~missing & plain & positive,
    }
    return [columns.finding(kind, where) for kind, where in kinds.items() if where.any()]


def crossing(points: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """(P,) bool: polygons that cross themselves; one that only touches itself does not.

    Args:
        points: (S, 2) float64, finite.
        ring: (S,) int, the polygon of each, ascending from 0 without a gap, three points or more each.
    """
    rings = shapely.linearrings(points, indices=ring)
    result = ~shapely.is_simple(rings)
    if result.any():
        reasons = shapely.is_valid_reason(shapely.polygons(rings[result]))
        result[result] = [str(reason).startswith("Self-intersection") for reason in reasons]
    return result


def _shoelace(points: np.ndarray, starts: np.ndarray, length: np.ndarray) -> np.ndarray:
    """(P,) areas in px^2; coordinates are taken from each polygon's first point, for precision."""
    xy = points - np.repeat(points[starts], length, axis=0)
    after = np.arange(1, len(points) + 1)
    after[starts + length - 1] = starts
    cross = xy[:, 0] * xy[after, 1] - xy[after, 0] * xy[:, 1]
    return np.abs(np.add.reduceat(cross, starts)) / 2


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A,) overlap of boxes (A, 4), x1 y1 x2 y2, pair by pair; NaN where a box is NaN."""
    size = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    common = size.clip(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - common
    return common / np.maximum(union, 1e-9)
