"""Cars and lorries, seen from behind or from the front."""

from __future__ import annotations

import numpy as np

from . import textures
from .assets import tone
from .mesh import Mesh

CAR_PAINT = [
    (235, 235, 235),
    (190, 190, 188),
    (60, 60, 62),
    (40, 36, 150),
    (130, 80, 40),
    (30, 150, 190),
    (90, 96, 100),
]


def shadow(mesh: Mesh, half_x: float, half_z: float) -> None:
    """A soft dark patch under a thing."""
    for grow in (1.15, 0.95):
        a, b = half_x * grow, half_z * grow
        mesh.plate([(-a, 0.01, -b), (a, 0.01, -b), (a, 0.01, b), (-a, 0.01, b)], (16, 16, 18), alpha=0.3, bias=-50)


def car(rng: np.random.Generator, oncoming: bool, dark: bool) -> tuple[Mesh, tuple[float, float]]:
    """A car or pickup, seen from behind or (oncoming) from the front. Footprint half sizes in metres."""
    mesh = Mesh()
    wide, long, belt, high = (
        rng.uniform(1.65, 1.9),
        rng.uniform(4.0, 5.1),
        rng.uniform(0.85, 1.05),
        rng.uniform(1.42, 1.8),
    )
    paint = tone(CAR_PAINT[rng.integers(0, len(CAR_PAINT))], rng)
    shadow(mesh, wide / 2, long / 2)
    a, z0, z1 = wide / 2, -long / 2, long / 2
    for x in (-a + 0.12, a - 0.12):
        for z in (z0 + 0.8, z1 - 0.8):
            mesh.prism(
                [(z - 0.32, 0.1), (z - 0.2, 0), (z + 0.2, 0), (z + 0.32, 0.1), (z + 0.3, 0.6), (z - 0.3, 0.6)],
                x - 0.1,
                x + 0.1,
                (24, 24, 26),
                along="x",
                bias=-0.3,
            )
    mesh.prism(
        [(z0, 0.3), (z1, 0.3), (z1, belt - 0.12), (z1 - 0.15, belt), (z0 + 0.1, belt), (z0, belt - 0.1)],
        -a,
        a,
        paint,
        along="x",
    )
    pickup = rng.random() < 0.4
    b0 = z0 + (1.7 if pickup and not oncoming else 0.25 if not oncoming else 1.1)
    b1 = z1 - (1.7 if pickup and oncoming else 1.0)
    t = 0.86 * a
    mesh.prism([(b0, belt), (b1, belt), (b1 - 0.7, high), (b0 + 0.45, high)], -t, t, paint * 0.96, along="x", bias=0.8)
    glass = np.array([72, 62, 54.0]) * rng.uniform(0.6, 1.3)
    mesh.plate(
        [
            (-t * 0.86, high - 0.07, b0 + 0.4),
            (t * 0.86, high - 0.07, b0 + 0.4),
            (t * 0.9, belt + 0.06, b0 + 0.02),
            (-t * 0.9, belt + 0.06, b0 + 0.02),
        ],
        glass,
        bias=1.6,
    )
    for s in (-1, 1):
        mesh.plate(
            [
                (s * t, high - 0.1, b0 + 0.55),
                (s * t, high - 0.1, b1 - 0.75),
                (s * t, belt + 0.05, b1 - 0.25),
                (s * t, belt + 0.05, b0 + 0.25),
            ],
            glass,
            bias=1.2,
        )
    lamp = (
        ((215, 240, 250) if oncoming else (40, 30, 205))
        if dark or rng.random() < 0.3
        else ((205, 210, 210) if oncoming else (40, 34, 120))
    )
    glow = 2.0 if dark else 0.0
    for s in (-1, 1):
        x, y = s * a * 0.76, belt - 0.22
        mesh.plate(
            [
                (x - 0.17, y + 0.1, z0 - 0.01),
                (x + 0.17, y + 0.1, z0 - 0.01),
                (x + 0.17, y - 0.09, z0 - 0.01),
                (x - 0.17, y - 0.09, z0 - 0.01),
            ],
            lamp,
            glow=glow,
            bias=1.5,
        )
    mesh.plate(
        [(-0.26, 0.62, z0 - 0.02), (0.26, 0.62, z0 - 0.02), (0.26, 0.48, z0 - 0.02), (-0.26, 0.48, z0 - 0.02)],
        (220, 222, 222),
        bias=1.6,
    )
    return mesh, (a, long / 2)


def lorry(rng: np.random.Generator, oncoming: bool, dark: bool) -> tuple[Mesh, tuple[float, float]]:
    """A lorry, bus or open-sided farm truck; the last has posts and a roof, as a pavilion has."""
    mesh = Mesh()
    wide, long, high = rng.uniform(2.2, 2.55), rng.uniform(6.0, 11.0), rng.uniform(2.8, 3.9)
    a, z0 = wide / 2, -long / 2
    shadow(mesh, a, long / 2)
    paint = tone(
        [(200, 205, 205), (60, 60, 190), (150, 90, 40), (40, 140, 190), (60, 120, 60)][rng.integers(0, 5)], rng
    )
    for z in (z0 + 1.0, z0 + 2.0, -z0 - 1.2):
        mesh.box((0, 0, z), (wide * 0.96, 0.95, 0.95), (26, 26, 28), bias=-0.5)
    mesh.box((0, 0.6, 0), (wide, 0.4, long), (52, 52, 55))
    if rng.random() < 0.3 and not oncoming:
        for z in np.linspace(z0 + 0.2, -z0 - 2.5, 4):
            for x in (-a, a):
                mesh.rod((x, 1.0, z), (x, high, z), 0.09, 0.09, paint)
        mesh.box((0, 1.0, -0.8), (wide * 0.94, rng.uniform(0.5, 1.6), long - 2.6), tone((60, 100, 120), rng))
        mesh.box((0, high, -0.8), (wide, 0.12, long - 2.0), paint, bias=1)
    else:
        mesh.box((0, 1.0, 0), (wide, high - 1.0, long), paint)
        if rng.random() < 0.5:
            face = textures.advertisement(1.1, rng)
            mesh.plate(
                [
                    (-a * 0.9, high - 0.2, z0 - 0.01),
                    (a * 0.9, high - 0.2, z0 - 0.01),
                    (a * 0.9, 1.3, z0 - 0.01),
                    (-a * 0.9, 1.3, z0 - 0.01),
                ],
                texture=face,
                bias=6,
            )
        elif oncoming:
            mesh.plate(
                [
                    (-a * 0.88, high * 0.8, z0 - 0.01),
                    (a * 0.88, high * 0.8, z0 - 0.01),
                    (a * 0.88, high * 0.52, z0 - 0.01),
                    (-a * 0.88, high * 0.52, z0 - 0.01),
                ],
                (70, 62, 56),
                bias=6,
            )
    for s in (-1, 1):
        colour = (215, 240, 250) if oncoming else (40, 30, 205)
        x = s * a * 0.8
        mesh.plate(
            [
                (x - 0.16, 0.95, z0 - 0.02),
                (x + 0.16, 0.95, z0 - 0.02),
                (x + 0.16, 0.75, z0 - 0.02),
                (x - 0.16, 0.75, z0 - 0.02),
            ],
            colour,
            glow=2.0 if dark else 0.0,
            bias=6,
        )
    return mesh, (a, long / 2)
