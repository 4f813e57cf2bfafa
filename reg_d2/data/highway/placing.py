"""Where an object of each class stands: beside, over or along the road, large enough, inside the picture."""

from __future__ import annotations

import numpy as np

from . import assets, clutter, plan, traffic
from .backdrop import Road
from .camera import Atmosphere, Camera
from .mesh import Item, Mesh

TRIES = 60


class Stage:
    """A road scene under construction: its items, and the ground that is taken."""

    def __init__(self, camera: Camera, air: Atmosphere, road: Road, rng: np.random.Generator, difficulty: float = 1.0):
        self.camera, self.air, self.road, self.rng, self.difficulty = camera, air, road, rng, difficulty
        self.items: list[Item] = []
        self.taken: list[tuple[float, float, float, float]] = []
        self.views: list[tuple[float, float, float, float]] = []
        self.kept: dict[int, tuple[list[Item], tuple | None, list]] = {}  # by label: items, view, areas
        self.row: list[tuple[float, float, float]] = []  # next places of a row of poles: x, z, direction

    def add(self, item: Item) -> None:
        if any(p.alpha >= 1 for p in item.prims):
            self.items.append(item)

    def free(self, x0, z0, x1, z1) -> bool:
        return all(x1 < a or x0 > c or z1 < b or z0 > d for a, b, c, d in self.taken)

    def block(self, x0, z0, x1, z1) -> None:
        self.taken.append((x0, z0, x1, z1))

    def beside(self, distance: float, left: float = 0.6) -> tuple[float, float]:
        """A side (-1 or 1) and the x that lies `distance` metres outside of that side's shoulder."""
        side = -1.0 if self.rng.random() < left else 1.0
        return side, (self.road.left - distance) if side < 0 else (self.road.right + distance)

    def try_add(self, mesh: Mesh, x: float, z: float, a: float, b: float, yaw: float = 0.0, share: float = 0.0) -> bool:
        """Add clutter with half sizes a, b (m) where the ground is free and `share` of it is in the picture."""
        reach = max(a, b) if yaw else a
        if not self.free(x - reach, z - b, x + reach, z + b):
            return False
        item = mesh.item(self.camera, self.air, (x, z), yaw)
        if share and not self.in_view(item, share):
            return False
        self.block(x - reach, z - b, x + reach, z + b)
        self.add(item)
        return True

    def in_view(self, item: Item, share: float) -> bool:
        """Is at least `share` of the item's bounding box inside the picture?"""
        x0, y0, x1, y1 = item.bounds()
        w = min(x1, self.camera.width - 1) - max(x0, 0)
        h = min(y1, self.camera.height - 1) - max(y0, 0)
        return w > 0 and h > 0 and w * h >= share * (x1 - x0) * (y1 - y0)

    def depth(self, low: float, high: float, metres: float) -> float:
        """A distance at which `metres` of height take low..high pixels of a 360-row picture (log-uniform)."""
        # Easier pictures drop the smallest part of the range, and reach somewhat beyond the largest.
        ease = 1 - self.difficulty
        low, high = low * (high / low) ** (0.65 * ease), high * (1 + 0.5 * ease)
        pixels = np.exp(self.rng.uniform(np.log(low), np.log(high))) * max(self.camera.height, 180) / 360
        return float(self.camera.focal * metres / pixels)

    def keep(self, items: list[Item], label: int, footprint, view_limit: float = 0.5) -> bool:
        """Accept an object unless its picture lies mostly on, or under, that of another one."""
        boxes = np.array([item.bounds() for item in items if item.label])
        x0, y0, x1, y1 = *np.maximum(boxes[:, :2].min(axis=0), 0), *boxes[:, 2:].max(axis=0)
        for a, b, c, d in self.views:
            w, h = min(x1, c) - max(x0, a), min(y1, d) - max(y0, b)
            if w > 0 and h > 0 and w * h > view_limit * min((x1 - x0) * (y1 - y0), (c - a) * (d - b)):
                return False
        view = (x0, y0, x1, y1) if view_limit < 1 else None
        if view:
            self.views.append(view)
        for area in footprint:
            self.block(*area)
        for item in items:
            self.add(item)
        self.kept[label] = (items, view, list(footprint))
        return True

    def remove(self, label: int) -> None:
        """Take an object away again, with its supports and the ground it took."""
        items, view, areas = self.kept.pop(label)
        self.items = [item for item in self.items if all(item is not other for other in items)]
        if view:
            self.views.remove(view)
        for area in areas:
            self.taken.remove(area)


def place_object(stage: Stage, category: int, label: int) -> bool:
    """Put one object of the category into the scene under this label; False where no place was found."""
    place = _PLACES[category]
    return any(place(stage, label) for _ in range(TRIES))


def _building(build, low: float, high: float, tall: float, share: float):
    def place(stage: Stage, label: int) -> bool:
        rng = stage.rng
        z = stage.depth(low, high, tall)
        side, x = stage.beside(rng.uniform(1.8, 7.0), left=0.62)
        # A cheap look before anything is built: is that point in the picture at all?
        u, _ = stage.camera.project(np.array([[x, 1.0, z]]))[0]
        if not -0.02 < u / stage.camera.width < 1.02:
            return False
        mesh, (a, b) = build(rng)
        x += side * a
        reach = max(a, b)
        if not stage.free(x - reach, z - reach, x + reach, z + reach):
            return False
        # Open to the road; seen from the road it is turned by anything up to a right angle.
        yaw = -side * np.clip(rng.normal(0.65, 0.45), -0.1, np.pi / 2)
        traffic.shadow(mesh, a, b)
        item = mesh.item(stage.camera, stage.air, (x, z), yaw, label)
        return stage.in_view(item, share) and stage.keep([item], label, [(x - reach, z - reach, x + reach, z + reach)])

    return place


def _place_bridge(stage: Stage, label: int) -> bool:
    rng, road = stage.rng, stage.road
    z = float(np.exp(rng.uniform(np.log(17), np.log(62))))
    left, right = road.left - rng.uniform(0.6, 3), road.right + rng.uniform(0.6, 3)
    median = sum(road.median) / 2 if road.median and rng.random() < 0.8 else None
    mesh, columns = assets.pedestrian_bridge(rng, left, right, median)
    areas = [(x - r, z - 1, x + r, z + 1) for x, r in columns]
    areas += [(left - 2.6, z - 9, left - 0.6, z + 9), (right + 0.6, z - 9, right + 2.6, z + 9)]
    if not all(stage.free(*area) for area in areas):
        return False
    item = mesh.item(stage.camera, stage.air, (0.0, z), rng.normal(0, 0.04), label)
    return stage.keep([item], label, areas, view_limit=2.0)


def _place_guardrail(stage: Stage, label: int) -> bool:
    rng, road = stage.rng, stage.road
    places = [road.left + 0.35, road.left - 0.4, road.right - 0.35]
    if road.median:
        places += [sum(road.median) / 2, road.median[0] + 0.5, road.median[1] - 0.5]
    x = float(places[rng.integers(0, len(places))])
    z0, length = rng.uniform(4, 22), rng.uniform(8, 45)
    if not stage.free(x - 0.6, z0, x + 0.6, z0 + length):
        return False
    u = stage.camera.project(np.array([[x, 0.5, z0 + length], [x, 0.5, z0]]))[:, 0] / stage.camera.width
    if not (0.02 < u[0] < 0.98) or abs(np.clip(u[1], 0, 1) - u[0]) < 0.05:
        return False
    segments = assets.concrete_guardrail(rng, length)
    items = [mesh.item(stage.camera, stage.air, (x, z0 + z), 0.0, label) for mesh, z in segments]
    shade = clutter.Mesh()
    traffic.shadow(shade, 0.45, length / 2)
    items[-1].prims = shade.item(stage.camera, stage.air, (x, z0 + length / 2)).prims + items[-1].prims
    return stage.keep(items, label, [(x - 0.6, z0, x + 0.6, z0 + length + 1)], view_limit=0.7)


def _place_info(stage: Stage, label: int) -> bool:
    rng, road = stage.rng, stage.road
    mount = str(rng.choice(["posts", "cantilever", "gantry"], p=[0.62, 0.2, 0.18]))
    mesh, wide, high = assets.information_sign(rng, mount)
    z = stage.depth(17, 66, high)
    if mount == "posts":
        foot = rng.uniform(1.2, 2.4)
        _, x = stage.beside(rng.uniform(0.5, 3) + wide / 2, left=0.68)
        reach, areas = 0.0, [(x - wide / 2, z - 0.5, x + wide / 2, z + 0.5)]
    elif mount == "cantilever":
        foot, x = rng.uniform(5.0, 5.8), road.own[0] + rng.uniform(-0.5, 2.0)
        reach = x - (road.left - 1.0)
        areas = [(road.left - 1.5, z - 0.5, road.left - 0.5, z + 0.5)]
    else:
        foot = rng.uniform(5.2, 6.0)
        x = rng.uniform(road.own[0] + 1, road.own[1] - 1)
        reach = max(x - road.left, road.own[1] - x) + 1.2
        areas = [(x - reach - 0.5, z - 0.5, x - reach + 0.5, z + 0.5)]
    if not all(stage.free(*area) for area in areas):
        return False
    _lift(mesh, foot)
    yaw = rng.normal(0, 0.16)
    item = mesh.item(stage.camera, stage.air, (x, z), yaw, label)
    if not stage.in_view(item, 0.7):
        return False
    carrier = clutter.support(mount, wide, foot, high, max(reach, 0.5), rng)
    behind = carrier.item(stage.camera, stage.air, (x, z + 0.02), yaw if mount == "posts" else 0.0)
    return stage.keep([item, behind], label, areas)


def _lift(mesh: Mesh, metres: float) -> None:
    for i, part in enumerate(mesh.parts):
        mesh.parts[i] = (part[0], part[1] + np.array([0, metres, 0]), *part[2:])


def _place_warning(stage: Stage, label: int) -> bool:
    rng = stage.rng
    mesh, size = assets.warning_sign(rng)
    z = stage.depth(15, 56, size)
    foot = rng.uniform(1.3, 2.2)
    _, x = stage.beside(rng.uniform(0.4, 2.4) + size / 2, left=0.66)
    if stage.road.median and rng.random() < 0.15:
        x = sum(stage.road.median) / 2
    if not stage.free(x - 0.4, z - 0.4, x + 0.4, z + 0.4):
        return False
    _lift(mesh, foot)
    yaw = rng.normal(0, 0.22)
    item = mesh.item(stage.camera, stage.air, (x, z), yaw, label)
    if not stage.in_view(item, 0.75):
        return False
    post = clutter.Mesh()
    post.rod((0, 0, 0.05), (0, foot + size * 0.8, 0.05), 0.1, 0.1, assets.STEEL * rng.uniform(0.6, 1.1))
    behind = post.item(stage.camera, stage.air, (x, z + 0.02), yaw)
    return stage.keep([item, behind], label, [(x - 0.4, z - 0.4, x + 0.4, z + 0.4)])


def _place_pole(stage: Stage, label: int) -> bool:
    rng, road = stage.rng, stage.road
    if not stage.row:
        side, x = stage.beside(rng.uniform(0.5, 2.0), left=0.6)
        if road.median and rng.random() < 0.3:
            x, side = sum(road.median) / 2, float(rng.choice([-1.0, 1.0]))
        z0, step = rng.uniform(11, 34), rng.uniform(13, 28)
        stage.row = [(x, z0 + step * i, -side) for i in range(rng.integers(1, 5))]
    x, z, towards = stage.row.pop(0)
    z = min(z, 62.0)
    if not stage.free(x - 0.4, z - 0.4, x + 0.4, z + 0.4):
        return False
    lit = stage.air.light == "night" or (stage.air.light == "dusk" and rng.random() < 0.6)
    mesh = assets.single_arm_pole(rng, towards, lit and rng.random() < 0.85)
    item = mesh.item(stage.camera, stage.air, (x, z), rng.normal(0, 0.1), label)
    # The arm and the lamp make it what it is: they have to be in the picture.
    x0, y0, x1, _ = item.bounds()
    if y0 < -1 or x0 < -1 or x1 > stage.camera.width or not stage.in_view(item, 0.8):
        return False
    return stage.keep([item], label, [(x - 0.4, z - 0.4, x + 0.4, z + 0.4)], view_limit=0.6)


_PLACES = {
    plan.PAVILION: _building(assets.pavilion, 38, 125, 3.9, 0.6),
    plan.BRIDGE: _place_bridge,
    plan.INFO_SIGN: _place_info,
    plan.POLE: _place_pole,
    plan.BUS_STOP: _building(assets.bus_stop, 34, 115, 3.0, 0.6),
    plan.WARNING_SIGN: _place_warning,
    plan.GUARDRAIL: _place_guardrail,
}
