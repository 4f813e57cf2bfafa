"""The seven classes, each a mesh with its own sizes, shapes, colours and wear.

A sign is its panel (posts are scenery); a pole is shaft, arm and lamp; a pavilion, bus stop or bridge is the whole
building; a barrier is its whole visible length. Every builder returns meshes around the origin on the ground.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from . import textures
from .mesh import Mesh

CONCRETE = np.array([158, 164, 168.0])
STEEL = np.array([148, 146, 142.0])


def tone(colour, rng, spread=0.14) -> np.ndarray:
    return np.clip(np.asarray(colour, float) * rng.uniform(1 - spread, 1 + spread) + rng.normal(0, 5, 3), 5, 250)


ROOFS = [(46, 62, 150), (40, 92, 176), (66, 104, 52), (128, 84, 46), (120, 122, 124), (70, 82, 104), (52, 48, 118)]


def pavilion(rng: np.random.Generator) -> tuple[Mesh, tuple[float, float]]:
    """A roadside sala: slab, posts, open sides, bench, pitched roof (gable, hip or two tiers). Footprint (x, z) m."""
    mesh = Mesh()
    wide, deep = rng.uniform(3.0, 6.2), rng.uniform(2.6, 4.2)
    base, eave = rng.uniform(0.12, 0.55), rng.uniform(2.3, 3.0)
    post = tone([(205, 208, 210), (60, 90, 130), (90, 140, 150), (200, 190, 120)][rng.integers(0, 4)], rng)
    roof = tone(ROOFS[rng.integers(0, len(ROOFS))], rng, 0.25)
    mesh.box((0, 0, 0), (wide + 0.5, base, deep + 0.5), tone(CONCRETE, rng), bias=-3)
    bays = int(rng.integers(2, 4))
    thick = rng.uniform(0.14, 0.28)
    for x in np.linspace(-wide / 2, wide / 2, bays):
        for z in (-deep / 2, deep / 2):
            mesh.box((x, base, z), (thick, eave - base, thick), post)
    for z in (deep / 2 - 0.3, -deep / 2 + 0.3)[: rng.integers(1, 3)]:
        mesh.box((0, base + 0.32, z), (wide * 0.86, 0.12, 0.4), tone((70, 100, 140), rng), bias=-0.2)
    if rng.random() < 0.45:  # a low rail or wall at the back
        mesh.box((0, base, deep / 2), (wide, rng.uniform(0.5, 0.95), 0.1), tone(post, rng))
    over, rise = rng.uniform(0.4, 0.8), rng.uniform(0.9, 1.9)
    tiles = textures.roof_tiles(roof, rng)
    kind = rng.choice(["gable", "hip", "tier"])
    pitched_roof(
        mesh,
        wide / 2 + over,
        deep / 2 + over,
        eave,
        rise,
        0.0 if kind != "hip" else rng.uniform(0.35, 0.8),
        tiles,
        roof,
    )
    if kind == "tier":
        pitched_roof(mesh, wide * 0.36, deep * 0.4, eave + rise * 0.72, rise * 0.62, 0.0, tiles, roof * 1.06, bias=2.5)
    return mesh, (wide / 2 + over, deep / 2 + over)


def pitched_roof(mesh, a, b, eave, rise, hip, tiles, colour, bias=2.0) -> None:
    """Ridge along x; `hip` shortens it on both ends (share of a). The gables are closed."""
    r, top = a * (1 - hip), eave + rise
    mesh.box((0, eave - 0.12, 0), (2 * a, 0.14, 2 * b), np.asarray(colour) * 0.62, bias=bias - 0.4)
    for s in (1, -1):  # the far slope first
        mesh.plate([(-r, top, 0), (r, top, 0), (a, eave, s * b), (-a, eave, s * b)], colour, texture=tiles, bias=bias)
    for s in (-1, 1):
        mesh.plate([(s * r, top, 0), (s * a, eave, b), (s * a, eave, -b)], np.asarray(colour) * 0.85, bias=bias + 0.02)


def bus_stop(rng: np.random.Generator) -> tuple[Mesh, tuple[float, float]]:
    """A shelter: flat, slanted or curved roof, back panel, thin posts, bench, sometimes a poster side, a bus plate."""
    mesh = Mesh()
    wide, deep, eave = rng.uniform(2.8, 5.2), rng.uniform(1.3, 2.0), rng.uniform(2.25, 2.8)
    frame = tone([(120, 118, 115), (150, 90, 40), (70, 120, 60), (60, 60, 150)][rng.integers(0, 4)], rng)
    glass = tone([(190, 185, 160), (206, 206, 200), (160, 120, 70)][rng.integers(0, 3)], rng)
    mesh.box((0, 0, 0), (wide + 0.4, 0.14, deep + 0.5), tone(CONCRETE, rng), bias=-3)
    back = textures.advertisement(wide / 1.3, rng) if rng.random() < 0.4 else None
    mesh.plate(
        [(-wide / 2, 2.0, deep / 2), (wide / 2, 2.0, deep / 2), (wide / 2, 0.5, deep / 2), (-wide / 2, 0.5, deep / 2)],
        glass,
        texture=back,
        bias=-1,
    )
    for x in np.linspace(-wide / 2, wide / 2, int(rng.integers(2, 5))):
        for z in (deep / 2, -deep / 2)[: rng.integers(1, 3)]:
            mesh.rod((x, 0, z), (x, eave, z), 0.09, 0.09, frame)
    mesh.box((0, 0.45, deep / 2 - 0.35), (wide * 0.8, 0.08, 0.4), tone((60, 100, 150), rng))
    if rng.random() < 0.5:
        x = rng.choice([-1, 1]) * wide / 2
        poster = textures.advertisement(0.8, rng)
        mesh.plate(
            [(x, 2.1, -deep / 2), (x, 2.1, deep / 2), (x, 0.4, deep / 2), (x, 0.4, -deep / 2)], glass, texture=poster
        )
    tilt = rng.choice([0.0, 0.0, rng.uniform(0.25, 0.6)])
    front, rear = deep / 2 + 0.45, deep / 2 + 0.15
    profile = [(-front, eave + tilt), (rear, eave - 0.05), (rear, eave + 0.12), (-front, eave + tilt + 0.17)]
    if rng.random() < 0.3:
        profile.insert(3, (0, eave + tilt / 2 + 0.5))
    mesh.prism(profile, -wide / 2 - 0.3, wide / 2 + 0.3, tone(frame, rng, 0.3), along="x", bias=2)
    if rng.random() < 0.75:
        x = rng.choice([-1, 1]) * (wide / 2 - 0.5)
        y = eave + tilt + 0.2
        mesh.plate(
            [(x - 0.4, y + 0.8, -front), (x + 0.4, y + 0.8, -front), (x + 0.4, y, -front), (x - 0.4, y, -front)],
            texture=textures.bus_face(rng),
            glow=0.6,
            bias=3,
        )
    return mesh, (wide / 2 + 0.3, deep / 2 + 0.5)


def single_arm_pole(rng: np.random.Generator, towards: float, lit: bool) -> Mesh:
    """A street light: shaft, one arm (straight, raised or swept) towards +-x, lamp. 7.5 to 11 m."""
    mesh = Mesh()
    height, reach = rng.uniform(7.5, 11.0), rng.uniform(1.4, 3.0)
    colour = tone(
        [STEEL * 1.1, (215, 215, 212), (60, 62, 64), (70, 96, 60), CONCRETE][
            rng.choice(5, p=[0.4, 0.2, 0.15, 0.1, 0.15])
        ],
        rng,
    )
    foot, top = rng.uniform(0.18, 0.3), rng.uniform(0.11, 0.16)
    if rng.random() < 0.5:
        mesh.box((0, 0, 0), (0.5, rng.uniform(0.3, 0.9), 0.5), tone(CONCRETE, rng))
    mesh.rod((0, 0, 0), (0, height, 0), foot, top, colour, least=1.8)
    rise = rng.uniform(0.0, 0.9)
    joints = [(0, height - 0.12)]
    if rng.random() < 0.4:  # swept
        joints += [(reach * 0.3, height + rise * 0.75), (reach * 0.65, height + rise)]
    joints.append((reach, height + rise))
    for (x0, y0), (x1, y1) in pairwise(joints):
        mesh.rod((towards * x0, y0, 0), (towards * x1, y1, 0), top * 0.85, top * 0.8, colour, least=1.5)
    lamp, glow = ((190, 235, 255), 2.0) if lit else (tone((150, 150, 150), rng), 0.0)
    mesh.box((towards * (reach + 0.3), height + rise - 0.1, 0), (0.85, 0.2, 0.34), lamp, glow=glow, bias=1)
    return mesh


def information_sign(rng: np.random.Generator, mount: str) -> tuple[Mesh, float, float]:
    """The panel alone, its foot at height 0: (mesh, width, height) in metres."""
    if mount == "posts":
        high = rng.uniform(1.0, 2.3)
        wide = high * rng.uniform(1.1, 2.1)
    else:
        high = rng.uniform(1.5, 2.6)
        wide = high * rng.uniform(1.2, 2.4)
    return _panel(wide, high, textures.information_face(wide / high, rng)), wide, high


def _panel(wide, high, texture) -> Mesh:
    mesh = Mesh()
    mesh.plate(
        [(-wide / 2, high, 0), (wide / 2, high, 0), (wide / 2, 0, 0), (-wide / 2, 0, 0)], texture=texture, glow=0.55
    )
    return mesh


def warning_sign(rng: np.random.Generator) -> tuple[Mesh, float]:
    """The yellow diamond, its lower corner at height 0: (mesh, diagonal in metres)."""
    mesh = Mesh()
    d = rng.uniform(1.05, 1.75)
    lean = rng.normal(0, 0.05)
    corners = np.array([(-d / 2, 0), (0, d / 2), (d / 2, 0), (0, -d / 2)])
    c, s = np.cos(lean), np.sin(lean)
    corners = corners @ np.array([[c, -s], [s, c]])
    mesh.plate([(x, y + d / 2, 0) for x, y in corners], texture=textures.warning_face(rng), glow=0.6)
    return mesh, d


def concrete_guardrail(rng: np.random.Generator, length: float) -> list[tuple[Mesh, float]]:
    """A Jersey barrier along z as (segment, z of its middle) pairs, so that it can stand among other things."""
    high = rng.uniform(0.8, 1.15)
    foot, waist, top = high * 0.36, high * 0.2, high * 0.1
    profile = [
        (-foot, 0),
        (foot, 0),
        (foot, 0.09),
        (waist, 0.34),
        (top, high),
        (-top, high),
        (-waist, 0.34),
        (-foot, 0.09),
    ]
    base = tone(CONCRETE * rng.uniform(0.8, 1.2), rng)
    paint = [None, None, None, ((20, 180, 225), (35, 36, 38)), ((225, 225, 225), (50, 48, 180))][rng.integers(0, 5)]
    step = rng.uniform(1.6, 2.6) if paint else 3.0
    count = max(2, round(length / step))
    segments = []
    for i in range(count):
        mesh = Mesh()
        colour = tone(paint[i % 2] if paint else base, rng, 0.05)
        # The halves are convex; the waist makes the whole profile not so.
        z0, z1 = -step / 2, step / 2
        mesh.prism(profile[:4] + profile[6:], z0, z1, colour * 0.94, bias=-0.01)
        mesh.prism([(-waist, 0.34), (waist, 0.34), (top, high), (-top, high)], z0, z1, colour)
        segments.append((mesh, (i + 0.5) * step))
    return segments


def pedestrian_bridge(rng: np.random.Generator, left: float, right: float, median: float | None) -> tuple[Mesh, list]:
    """A footbridge from x = left to right (m): deck, railings or a roof, columns, a stair along the road on each end.

    Returns the mesh and its columns' footprints (x, half size).
    """
    mesh = Mesh()
    clear, deck, deep = rng.uniform(5.1, 6.0), rng.uniform(0.45, 0.95), rng.uniform(1.8, 2.6)
    body = tone([CONCRETE, (205, 205, 200), (150, 128, 60), (80, 130, 90), (110, 150, 190)][rng.integers(0, 5)], rng)
    rail = tone([body * 1.05, (170, 110, 40), (60, 150, 190), STEEL, (90, 150, 70)][rng.integers(0, 5)], rng)
    columns = [left, right] + ([median] if median is not None else [])
    for x in columns:
        mesh.box((x, 0, 0), (rng.uniform(0.5, 0.9), clear, 0.9), body * 0.95, bias=-0.5)
    mesh.box(((left + right) / 2, clear, 0), (right - left + 1.6, deck, deep), body, bias=4)
    top, high = clear + deck, rng.uniform(1.0, 1.4)
    x0, x1 = left - 0.8, right + 0.8
    for z, bias in ((deep / 2, 3.5), (-deep / 2, 8.0)):
        if rng.random() < 0.45:
            mesh.plate([(x0, top + high, z), (x1, top + high, z), (x1, top, z), (x0, top, z)], rail, bias=bias)
        else:
            for y in (0.35, 0.7, 1.0):
                mesh.rod((x0, top + high * y, z), (x1, top + high * y, z), 0.09, 0.09, rail, bias=bias)
            for x in np.arange(x0, x1 + 0.1, 2.0):
                mesh.rod((x, top, z), (x, top + high, z), 0.08, 0.08, rail, bias=bias)
    if rng.random() < 0.35:  # a roof
        for x in np.arange(x0, x1 + 0.1, 4.0):
            mesh.rod((x, top, -deep / 2), (x, top + 2.5, -deep / 2), 0.1, 0.1, rail, bias=8)
        mesh.prism(
            [(-deep / 2 - 0.3, top + 2.4), (deep / 2 + 0.3, top + 2.4), (0, top + 3.0)],
            x0,
            x1,
            tone(ROOFS[rng.integers(0, 7)], rng),
            along="x",
            bias=8.5,
        )
    if rng.random() < 0.3:  # a banner on the deck
        wide = min(rng.uniform(4, 9), right - left)
        x = rng.uniform(left + wide / 2, right - wide / 2)
        face = textures.advertisement(wide / 1.2, rng)
        z = -deep / 2 - 0.05
        mesh.plate(
            [
                (x - wide / 2, top + 1.0, z),
                (x + wide / 2, top + 1.0, z),
                (x + wide / 2, top - 0.3, z),
                (x - wide / 2, top - 0.3, z),
            ],
            texture=face,
            bias=9,
        )
    for x in (left - 1.6, right + 1.6):
        _stair(mesh, x, rng.choice([-1.0, 1.0]), top, body, rail, rng)
    return mesh, [(x, 0.6) for x in columns]


def _stair(mesh, x, way, top, body, rail, rng) -> None:
    """A flight that falls along the road (+-z) from the deck's height to the ground, with a side wall or rail."""
    run = top * rng.uniform(1.1, 1.5)
    for i in range(6):  # in pieces: one long slab would be painted at the wrong distance
        a, b = i / 6, (i + 1) / 6
        ya, yb, za, zb = top * (1 - a), top * (1 - b), way * run * a, way * run * b
        mesh.prism([(za, ya - 0.45), (zb, yb - 0.45), (zb, yb), (za, ya)], x - 0.8, x + 0.8, body, along="x")
        for side in (-0.8, 0.8):
            wall = [(x + side, ya + 1.0, za), (x + side, yb + 1.0, zb), (x + side, yb, zb), (x + side, ya, za)]
            mesh.plate(wall, rail * rng.uniform(0.92, 1.0), bias=0.01)
