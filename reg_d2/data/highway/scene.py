"""One picture: put the planned objects into a road scene, check what stays visible, draw it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np

from . import clutter, plan, traffic
from .backdrop import Road, draw_backdrop
from .camera import Atmosphere, Camera
from .mesh import Item, paint, stamp
from .placing import Stage, place_object
from .weather import finish

# An object counts when at least this share of its pixels inside the picture is not covered ...
MIN_VISIBLE = 0.35
# (a pole without its arm is any pole, so more of it has to be seen)
MIN_VISIBLE_POLE = 0.6
# ... and it is at least this large, at 360 rows; smaller pictures ask for less, down to half.
MIN_SIDE, MIN_AREA = 7.0, 50.0
ATTEMPTS = 60
# How often the hidden objects of one try get another place.
REPAIRS = 8


@dataclass
class Scene:
    """What render_scene returns."""

    image: np.ndarray  # (H, W, 3) uint8 BGR, with weather
    ids: np.ndarray  # (H, W) uint8: 0 or the 1-based place of the object in `categories`
    categories: list[int]
    items: list[Item] = field(default_factory=list)  # far to near
    air: Atmosphere | None = None
    clean: np.ndarray | None = None  # the picture before weather, lens and sensor


def limits(height: int) -> tuple[float, float]:
    """Least side (pixels) and least visible area (pixels^2) of an object in a picture of this height."""
    k = float(np.clip(height / 360, 0.5, 1.5))
    return MIN_SIDE * k, MIN_AREA * k * k


def render_scene(categories: list[int], size: tuple[int, int], seed: tuple[int, ...], difficulty: float = 1.0) -> Scene:
    """Draw a picture with exactly these objects.

    Args:
        categories: category ids 1..7, one per object.
        size: (width, height) in pixels.
        seed: whole numbers that decide everything (the run's seed, the split, the picture).
        difficulty: 0..1, see the package's docstring.

    Raises:
        RuntimeError: no arrangement was found; the picture is too small or too narrow for the objects.
    """
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([*seed, attempt])
        scene = _arrange(categories, size, rng, max(0.0, 1 - attempt / 20), difficulty)
        if scene is not None:
            stage, items, ids = scene
            canvas = draw_backdrop(stage.camera, stage.air, stage.road, rng)
            for item in items:
                paint(item, canvas, stage.air)
            image = finish(canvas, stage.air, _lamps(stage, items), rng)
            return Scene(image, ids, list(categories), items, stage.air, canvas)
    names = ", ".join(plan.HIGHWAY_CLASSES[c - 1] for c in categories)
    raise RuntimeError(
        f"picture {seed}: no arrangement of [{names}] found at {size[0]}x{size[1]} in {ATTEMPTS} attempts; "
        "use a larger or wider size, or more images for the same number of objects"
    )


def _arrange(categories, size, rng, clutter_gain, difficulty):
    """One try: (stage, items far to near, ids), or None when an object does not end up visible."""
    width, height = size
    small = sum(c in (plan.WARNING_SIGN, plan.INFO_SIGN, plan.PAVILION, plan.BUS_STOP) for c in categories)
    air = Atmosphere.sample(rng, difficulty)
    stage = Stage(
        Camera.sample(width, height, rng),
        air,
        Road.sample(rng, narrow=small > 0 and rng.random() < 0.6),
        rng,
        difficulty,
    )
    # Large things first: the others find a place around them.
    order = sorted(range(len(categories)), key=lambda i: _RANK[categories[i]])
    for i in order:
        if not place_object(stage, categories[i], i + 1):
            return None
    for _ in range(REPAIRS):
        bad = _hidden(sorted(stage.items, key=lambda item: -item.depth), categories, size)
        if not bad:
            break
        for label in bad:
            stage.remove(label)
        if not all(place_object(stage, categories[label - 1], label) for label in bad):
            return None
    else:
        return None
    add_clutter(stage, clutter_gain * difficulty, set(categories))
    items = sorted(stage.items, key=lambda item: -item.depth)
    ids = np.zeros((height, width), np.uint8)
    for _ in range(30):
        bad = _hidden(items, categories, size, ids)
        if not bad:
            return stage, items, ids
        # Take away what stands in front of the hidden objects, nearest first.
        culprit = _nearest_cover(items, bad)
        if culprit is None:
            return None
        items = [item for item in items if item is not culprit]
    return None


_RANK = {
    plan.BRIDGE: 0,
    plan.GUARDRAIL: 1,
    plan.PAVILION: 2,
    plan.BUS_STOP: 3,
    plan.INFO_SIGN: 4,
    plan.WARNING_SIGN: 5,
    plan.POLE: 6,
}


def _hidden(items, categories, size, out: np.ndarray | None = None) -> list[int]:
    """Labels of the objects that are too small or too covered; fills the (H, W) uint8 id buffer `out`."""
    width, height = size
    ids = np.zeros((height, width), np.uint8) if out is None else out
    ids[:] = 0
    alone = {label: np.zeros((height, width), np.uint8) for label in range(1, len(categories) + 1)}
    for item in items:
        stamp(item, ids, item.label)
        if item.label:
            stamp(item, alone[item.label], 1)
    side, area = limits(height)
    bad = []
    for label, own in alone.items():
        seen = ids == label
        whole, shown = cv2.countNonZero(own), int(np.count_nonzero(seen))
        pole = categories[label - 1] == plan.POLE
        if shown < area or shown < (MIN_VISIBLE_POLE if pole else MIN_VISIBLE) * whole:
            bad.append(label)
            continue
        _, _, w, h = cv2.boundingRect(seen.view(np.uint8))
        # A pole seen along its arm is thin by nature: its length must do.
        # What is seen of it has to reach to the lamp, or it could be any pole.
        if (h < 3 * side or w < max(3, 0.8 * cv2.boundingRect(own)[2])) if pole else min(w, h) < side:
            bad.append(label)
    return bad


def _nearest_cover(items, bad) -> Item | None:
    for label in bad:
        own = [item for item in items if item.label == label]
        far = max(item.depth for item in own)
        boxes = np.array([item.bounds() for item in own])
        x0, y0, x1, y1 = *boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)
        for item in reversed(items):
            if item.label or item.depth > far or not any(p.alpha >= 1 for p in item.prims):
                continue
            a, b, c, d = item.bounds()
            if a < x1 and c > x0 and b < y1 and d > y0:
                return item
    return None


def _lamps(stage: Stage, items) -> list[tuple[float, float, float]]:
    """(u, v, radius) of the emitting primitives at dusk and night."""
    if stage.air.light not in ("night", "dusk"):
        return []
    found = []
    for item in items:
        for prim in item.prims:
            if prim.glow >= 2 and prim.alpha >= 1:
                u, v = prim.points.mean(axis=0)
                found.append((float(u), float(v), float(np.clip(np.ptp(prim.points[:, 0]), 1, 14))))
    return found


def add_clutter(stage: Stage, gain: float, present: set[int]) -> None:
    """Traffic, trees and look-alikes, about `gain` (0..1) times the usual number."""
    rng, camera, road, dark = stage.rng, stage.camera, stage.road, stage.air.light in ("dusk", "night")

    def times(mean):
        return int(rng.poisson(mean * gain))

    if plan.BRIDGE not in present and rng.random() < 0.16 * gain:
        mesh, _ = clutter.overpass(rng, road.left - 4, road.right + 4)
        z = rng.uniform(26, 80)
        if stage.free(road.left - 5, z - 7, road.left - 3, z + 7) and stage.free(
            road.right + 3, z - 7, road.right + 5, z + 7
        ):
            stage.add(mesh.item(camera, stage.air, (0, z)))
    for make, mean in ((clutter.w_beam, 0.3), (clutter.kerb, 0.5)):
        for _ in range(min(2, times(mean))):
            x = float(
                rng.choice(
                    [road.left + 0.2, road.right - 0.2, sum(road.median) / 2 if road.median else road.right - 0.2]
                )
            )
            z0, length = rng.uniform(4, 30), rng.uniform(15, 60)
            if stage.free(x - 0.5, z0, x + 0.5, z0 + length):
                stage.block(x - 0.5, z0, x + 0.5, z0 + length)
                for mesh, z in make(rng, length):
                    stage.add(mesh.item(camera, stage.air, (x, z0 + z)))
    for _ in range(times(2.6)):
        x, oncoming = road.lanes[rng.integers(0, len(road.lanes))]
        make = traffic.car if rng.random() < 0.7 else traffic.lorry
        mesh, (a, b) = make(rng, oncoming, dark)
        if rng.random() < 0.1:
            x = road.left + a + 0.1  # parked on the shoulder
        z = rng.uniform(11, 75) if abs(x) > 1.5 else rng.uniform(16, 75)
        stage.try_add(mesh, x + rng.normal(0, 0.25), z, a, b)
    for _ in range(times(1.1)):
        mesh, (a, b) = clutter.building(rng, dark)
        side, x = stage.beside(rng.uniform(7, 20) + a)
        stage.try_add(mesh, x, rng.uniform(24, 90), a, b, yaw=rng.uniform(0, 0.9) * -side)
    for _ in range(times(0.7)):
        mesh, a = clutter.billboard(rng)
        side, x = stage.beside(rng.uniform(4, 14) + a)
        stage.try_add(mesh, x, rng.uniform(22, 80), a, 1.0, yaw=rng.normal(0, 0.25))
    for _ in range(times(1.1)):
        _, x = stage.beside(rng.uniform(0.6, 2.5))
        stage.try_add(clutter.small_sign(rng), x, rng.uniform(9, 34), 0.5, 0.3, yaw=rng.normal(0, 0.2))
    if rng.random() < 0.55 * gain:
        _utility_row(stage)
    for _ in range(times(0.6)):
        _, x = stage.beside(rng.uniform(1, 5))
        # Whole, or a lamp with two arms could look like one with one arm.
        stage.try_add(clutter.mast(rng), x, rng.uniform(14, 60), 0.4, 0.4, share=0.99)
    _trees(stage, gain)


def _utility_row(stage: Stage) -> None:
    """Utility poles along one side with wires from one to the next."""
    rng, camera = stage.rng, stage.camera
    _, x = stage.beside(rng.uniform(4, 8))
    mesh = clutter.utility_pole(rng)
    tops = []
    for z in np.arange(rng.uniform(12, 25), 150, rng.uniform(25, 40)):
        if stage.try_add(mesh, x, float(z), 0.4, 0.4):
            tops.append((float(z), mesh.parts[0][1][1][1]))
    for (z0, high), (z1, _) in pairwise(tops):
        wires = clutter.Mesh()
        for dx in (-0.9, 0.0, 0.9):
            t = np.linspace(0, 1, 7)
            p = [(dx, high - 0.2 - 1.2 * 4 * s * (1 - s), (z1 - z0) * s) for s in t]
            for a, b in pairwise(p):
                wires.rod(a, b, 0.03, 0.03, (38, 38, 40), least=0.7)
        stage.add(wires.item(camera, stage.air, (x, z0)))


def _trees(stage: Stage, gain: float) -> None:
    rng = stage.rng
    dense = rng.choice([3, 9, 20], p=[0.3, 0.4, 0.3]) * gain
    for _ in range(int(rng.poisson(dense))):
        _, x = stage.beside(rng.gamma(2.0, 6.0) + 3.0)
        z = rng.uniform(12, 110)
        if stage.free(x - 0.7, z - 0.7, x + 0.7, z + 0.7):
            stage.add(clutter.tree(stage.camera, rng, (x, z)))
    for _ in range(int(rng.poisson(dense * 0.6))):
        _, x = stage.beside(rng.uniform(1.5, 9))
        z = rng.uniform(9, 60)
        if stage.free(x - 0.5, z - 0.5, x + 0.5, z + 0.5):
            stage.add(clutter.tree(stage.camera, rng, (x, z), small=True))
    if stage.road.median and rng.random() < 0.35:
        x = sum(stage.road.median) / 2
        for z in np.arange(rng.uniform(8, 16), 90, rng.uniform(4, 9)):
            if stage.free(x - 0.4, z - 0.5, x + 0.4, z + 0.5):
                stage.add(clutter.tree(stage.camera, rng, (x, float(z)), small=True))
