"""What is not an object: trees, supports, and look-alikes of the classes (vehicles are in `traffic`).

Look-alikes, and how a person tells them apart: billboards (no frame, lattice legs, pictures) from information signs;
utility poles (cross-arms, wires), two-armed lamps and bare masts from single-arm poles; round signs, yellow upright
boards from the yellow diamonds; closed sheds and houses, striped stalls, parked lorries from pavilions and bus stops;
steel W-beams, painted kerbs and walls from the concrete barrier; a road overpass (thick, wide, no stair) from the
pedestrian bridge.
"""

from __future__ import annotations

import numpy as np

from . import textures
from .assets import CONCRETE, ROOFS, STEEL, pitched_roof, tone
from .mesh import Item, Mesh, Prim


def tree(camera, rng: np.random.Generator, at, small: bool = False) -> Item:
    """A sprite that stands at (x, z) metres."""
    sprites = textures.tree_sprites()
    index = int(rng.integers(11, 14)) if small else int(rng.integers(0, 11))
    sprite = sprites[index]
    high = rng.uniform(0.8, 1.9) if small else rng.uniform(4.0, 9.5)
    wide = high * sprite.shape[1] / sprite.shape[0] * rng.uniform(0.85, 1.25)
    if rng.random() < 0.5:
        sprite = sprite[:, ::-1]
    foot = camera.project(np.array([[at[0], -0.05, at[1]]]))[0]
    scale = camera.focal / at[1]
    corners = np.array([foot - (wide * scale / 2, high * scale), foot + (wide * scale / 2, 0)])
    return Item(float(at[1]), [Prim(corners, np.zeros(3), sprite, shade=rng.uniform(0.72, 1.2), sprite=True)])


def utility_pole(rng: np.random.Generator) -> Mesh:
    """A concrete pole with one to three cross-arms on both sides, no lamp."""
    mesh = Mesh()
    high = rng.uniform(8, 12)
    colour = tone(CONCRETE, rng)
    mesh.rod((0, 0, 0), (0, high, 0), 0.3, 0.2, colour, least=1.6)
    for y in high - np.arange(rng.integers(1, 4)) * 0.8 - 0.4:
        mesh.rod((-1.0, y, 0), (1.0, y, 0), 0.12, 0.12, colour * 0.8)
        for x in (-0.9, 0.9):
            mesh.rod((x, y, 0), (x, y + 0.3, 0), 0.12, 0.08, (70, 80, 110))
    return mesh


def mast(rng: np.random.Generator) -> Mesh:
    """A lamp with two arms, a flag or a bare mast: poles, but not of the class."""
    mesh = Mesh()
    high = rng.uniform(6.5, 11)
    colour = tone([STEEL * 1.1, (210, 210, 208), (60, 62, 64)][rng.integers(0, 3)], rng)
    mesh.rod((0, 0, 0), (0, high, 0), 0.24, 0.13, colour, least=1.6)
    kind = rng.choice(["double", "flag", "bare"])
    if kind == "double":
        reach, rise = rng.uniform(1.3, 2.6), rng.uniform(0, 0.8)
        for s in (-1, 1):
            mesh.rod((0, high - 0.1, 0), (s * reach, high + rise, 0), 0.12, 0.1, colour, least=1.5)
            mesh.box((s * (reach + 0.3), high + rise - 0.1, 0), (0.8, 0.2, 0.34), tone((150, 150, 150), rng), bias=1)
    elif kind == "flag":
        colour = tone([(60, 60, 200), (40, 190, 230), (180, 90, 60)][rng.integers(0, 3)], rng)
        mesh.plate([(0, high, 0), (1.5, high - 0.15, 0), (1.5, high - 1.1, 0), (0, high - 1.0, 0)], colour)
    return mesh


def billboard(rng: np.random.Generator) -> tuple[Mesh, float]:
    mesh = Mesh()
    wide, high, foot = rng.uniform(3, 8), rng.uniform(2, 4), rng.uniform(1.5, 5)
    face = textures.advertisement(wide / high, rng)
    for x in np.linspace(-wide * 0.4, wide * 0.4, int(rng.integers(2, 4))):
        mesh.rod((x, 0, 0.1), (x, foot + high, 0.1), 0.2, 0.2, STEEL * 0.7)
        mesh.rod((x, foot, 0.1), (x + 0.8, 0, 1.2), 0.1, 0.1, STEEL * 0.7)
    mesh.plate(
        [(-wide / 2, foot + high, 0), (wide / 2, foot + high, 0), (wide / 2, foot, 0), (-wide / 2, foot, 0)],
        texture=face,
        bias=0.5,
    )
    return mesh, wide / 2


def small_sign(rng: np.random.Generator) -> Mesh:
    """A round regulatory sign, a yellow or coloured upright board, a striped hazard post, on a post."""
    mesh = Mesh()
    kind = rng.choice(["round", "board", "stripe"], p=[0.45, 0.35, 0.2])
    if kind == "stripe":
        for i in range(6):
            mesh.rod(
                (0, i * 0.25, 0), (0, i * 0.25 + 0.25, 0), 0.18, 0.18, [(40, 42, 44), (225, 228, 228)][i % 2], least=1.6
            )
        return mesh
    y, size = rng.uniform(1.5, 2.3), rng.uniform(0.7, 1.2)
    mesh.rod((0, 0, 0.05), (0, y + size, 0.05), 0.08, 0.08, STEEL)
    if kind == "round":
        r = size / 2
        square = [(-r, y + size, 0), (r, y + size, 0), (r, y, 0), (-r, y, 0)]
        mesh.plate(square, texture=textures.regulatory_face(rng), glow=0.6, disc=True)
    else:
        wide = size * rng.uniform(0.8, 1.6)
        face = textures.advertisement(wide / size, rng)
        if rng.random() < 0.6:
            face[:] = textures.YELLOW
            textures.glyphs(face, 8, 20, face.shape[1] - 16, 34, textures.BLACK, rng)
            textures.glyphs(face, 8, 66, face.shape[1] - 16, 34, textures.BLACK, rng)
            face = textures.wear(face, rng)
        mesh.plate(
            [(-wide / 2, y + size, 0), (wide / 2, y + size, 0), (wide / 2, y, 0), (-wide / 2, y, 0)],
            texture=face,
            glow=0.4,
        )
    return mesh


def building(rng: np.random.Generator, lit: bool) -> tuple[Mesh, tuple[float, float]]:
    """A closed shed, house, shop row or a stall with a striped awning."""
    mesh = Mesh()
    wide, deep, eave = rng.uniform(4, 11), rng.uniform(4, 8), rng.uniform(2.6, 6.0)
    wall = tone(
        [(200, 205, 205), (150, 180, 200), (170, 190, 160), (120, 150, 190), (150, 150, 150)][rng.integers(0, 5)], rng
    )
    mesh.box((0, 0, 0), (wide, eave, deep), wall)
    z, kind = -deep / 2 - 0.02, rng.choice(["windows", "shutter", "awning"])
    for x in np.arange(-wide / 2 + 0.9, wide / 2 - 0.5, rng.uniform(1.5, 2.4)):
        for y in np.arange(0.9, eave - 1.2, 2.4):
            on = lit and rng.random() < 0.4
            colour = (120, 200, 240) if on else tone((90, 84, 76), rng, 0.3)
            low, high = (0.1, 2.1) if kind == "shutter" else (y, y + 1.1)
            mesh.plate(
                [(x, high, z), (x + 0.9, high, z), (x + 0.9, low, z), (x, low, z)],
                colour,
                glow=1.5 if on else 0,
                bias=4,
            )
    if kind == "awning":
        stripes = [tone(c, rng) for c in ((60, 60, 200), (230, 230, 230))]
        xs = np.linspace(-wide / 2, wide / 2, 9)
        for i in range(8):
            a, b = xs[i], xs[i + 1]
            mesh.plate([(a, 2.7, z), (b, 2.7, z), (b, 2.2, z - 1.8), (a, 2.2, z - 1.8)], stripes[i % 2], bias=6)
        for x in (-wide / 2, wide / 2):
            mesh.rod((x, 0, z - 1.8), (x, 2.2, z - 1.8), 0.08, 0.08, STEEL, bias=6)
    if rng.random() < 0.6:
        roof = tone(ROOFS[rng.integers(0, len(ROOFS))], rng, 0.25)
        pitched_roof(
            mesh,
            wide / 2 + 0.5,
            deep / 2 + 0.5,
            eave,
            rng.uniform(0.8, 2.2),
            0.0,
            textures.roof_tiles(roof, rng),
            roof,
            bias=6,
        )
    return mesh, (wide / 2 + 0.5, deep / 2 + 2.0)


def w_beam(rng: np.random.Generator, length: float) -> list[tuple[Mesh, float]]:
    """A steel guardrail: two bright ribs on posts, in segments along z."""
    colour = tone(STEEL * 1.15, rng)
    out = []
    for i in range(max(2, round(length / 4))):
        mesh = Mesh()
        for z in (-1.9, 0.1):
            mesh.box((0, 0, z), (0.14, 0.75, 0.14), colour * 0.7, bias=-0.1)
        for y0, y1, gain in (
            (0.42, 0.5, 0.8),
            (0.5, 0.6, 1.15),
            (0.6, 0.66, 0.66),
            (0.66, 0.76, 1.15),
            (0.76, 0.82, 0.85),
        ):
            mesh.plate([(0, y1, -2), (0, y1, 2), (0, y0, 2), (0, y0, -2)], colour * gain)
        out.append((mesh, 4 * (i + 0.5)))
    return out


def kerb(rng: np.random.Generator, length: float) -> list[tuple[Mesh, float]]:
    """A painted kerb (black and white, red and white or bare), 0.2 m high, in segments along z."""
    pair = [((225, 226, 226), (40, 40, 42)), ((225, 226, 226), (50, 45, 180)), (CONCRETE, CONCRETE * 0.94)][
        rng.integers(0, 3)
    ]
    out = []
    for i in range(max(2, round(length / 1.5))):
        mesh = Mesh()
        mesh.box((0, 0, 0), (0.3, 0.2, 1.5), tone(pair[i % 2], rng, 0.06))
        out.append((mesh, 1.5 * (i + 0.5)))
    return out


def overpass(rng: np.random.Generator, left: float, right: float) -> tuple[Mesh, list[float]]:
    """A road bridge: a thick, deep slab with parapets that runs out of the picture, on wide piers; no stair."""
    mesh = Mesh()
    clear, deck, deep = rng.uniform(5.6, 7.5), rng.uniform(1.3, 2.2), rng.uniform(9, 14)
    body = tone(CONCRETE, rng)
    for x in (left, right):
        for z in (-deep / 3, deep / 3):
            mesh.box((x, 0, z), (1.8, clear, 1.6), body * 0.9)
    mesh.box((0, clear, 0), (160, deck, deep), body, bias=12)
    mesh.box((0, clear + deck, -deep / 2), (160, 0.9, 0.3), body * 1.08, bias=24)
    return mesh, [left, right]


def support(kind: str, width: float, foot: float, height: float, reach: float, rng: np.random.Generator) -> Mesh:
    """What carries an information sign: two posts, a cantilever (mast at x = -reach) or a gantry (both sides)."""
    mesh = Mesh()
    colour = tone(STEEL, rng)
    if kind == "posts":
        for x in (-width * 0.3, width * 0.3):
            mesh.rod((x, 0, 0.06), (x, foot + height * 0.9, 0.06), 0.11, 0.11, colour)
        return mesh
    y = foot + height / 2
    ends = (-reach,) if kind == "cantilever" else (-reach, reach)
    for x in ends:
        mesh.rod((x, 0, 0.15), (x, y + 0.6, 0.15), 0.34, 0.3, colour)
    for dy in (-0.45, 0.45):
        mesh.rod(
            (-reach, y + dy, 0.15), (width / 2 if kind == "cantilever" else reach, y + dy, 0.15), 0.14, 0.14, colour
        )
    return mesh
