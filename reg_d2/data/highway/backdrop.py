"""The part of the picture that nothing can stand behind: sky, hills, tree line, ground, road and its markings."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .camera import Atmosphere, Camera
from .textures import sample_noise

LANE = 3.5


@dataclass
class Road:
    """Cross-section in metres: asphalt strips, painted lines, and where the two road sides begin."""

    asphalt: list[tuple[float, float]]
    lines: list[tuple[float, str, bool]]  # x, colour, dashed
    lanes: list[tuple[float, bool]]  # centre x, oncoming
    left: float  # outer edge of the left shoulder
    right: float
    median: tuple[float, float] | None  # of a divided road
    own: tuple[float, float]  # own carriageway's asphalt edges, shoulders excluded

    @classmethod
    def sample(cls, rng: np.random.Generator, *, narrow: bool = False) -> Road:
        """`narrow` keeps to two lanes, so that roadside things can be near."""
        divided = rng.random() < (0.3 if narrow else 0.6)
        n = int(rng.integers(2, 4)) if divided and not narrow else (2 if divided else 1)
        lane = int(rng.integers(0, n)) if rng.random() < 0.4 else 0
        x0 = -(lane + 0.5) * LANE + rng.normal(0, 0.2)
        x1 = x0 + n * LANE
        shoulder = rng.uniform(0.9, 2.4)
        lanes = [(x0 + (i + 0.5) * LANE, False) for i in range(n)]
        lines = [(x0 + 0.1, "white", False)] + [(x0 + i * LANE, "white", True) for i in range(1, n)]
        if divided:
            gap = rng.uniform(1.6, 5.0)
            lines.append((x1 - 0.1, "yellow", False))
            asphalt, median = [(x0 - shoulder, x1 + 0.4)], (x1 + 0.4, x1 + 0.4 + gap)
            y0 = median[1] + 0.4
            asphalt.append((median[1], y0 + n * LANE + shoulder))
            lines += [(y0 + 0.1, "yellow", False), (y0 + n * LANE - 0.1, "white", False)]
        else:
            median, y0 = None, x1
            asphalt = [(x0 - shoulder, x1 + n * LANE + shoulder)]
            lines += [(x1, "yellow", bool(rng.random() < 0.5)), (x1 + n * LANE - 0.1, "white", False)]
        lines += [(y0 + i * LANE, "white", True) for i in range(1, n)]
        lanes += [(y0 + (i + 0.5) * LANE, True) for i in range(n)]
        return cls(asphalt, lines, lanes, x0 - shoulder, y0 + n * LANE + shoulder, median, (x0, x1))


def draw_backdrop(camera: Camera, air: Atmosphere, road: Road, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 picture without any object."""
    u, v = camera.level_grid()
    canvas = _sky(camera, air, u, v, rng)
    _skyline(canvas, camera, air, rng)
    _ground(canvas, camera, air, road, u, v, rng)
    return canvas


def _sky(camera, air, u, v, rng) -> np.ndarray:
    height = np.clip((camera.horizon - v) / camera.height, 0, 1)
    t = (height**0.6 * 1.3).clip(0, 1)[..., None]
    sky = air.sky_low.astype(np.float32) * (1 - t) + air.sky_top.astype(np.float32) * t
    bank = sample_noise(
        u * 0.6 + rng.integers(512), 420 / (height + 0.12) * 0.35 + rng.integers(512), int(rng.integers(0, 3))
    )
    cover, lift = rng.uniform(-0.6, 1.4), {"day": 46, "overcast": 22, "dusk": 26, "night": 7}[air.light]
    cloud = np.clip((bank - cover) * 0.8, 0, 1)[..., None]
    sky += cloud * (lift - 14 * sample_noise(u + 99, v * 2, 2)[..., None].clip(0, 2))
    if air.light in ("day", "dusk") and rng.random() < 0.5:
        at = (camera.width * rng.uniform(-0.1, 1.1), camera.horizon - camera.height * rng.uniform(0.03, 0.5))
        far = np.hypot(u - at[0], v - at[1]) / camera.width
        glow = np.exp(-far / rng.uniform(0.05, 0.2))[..., None]
        sky += glow * np.float32([70, 120, 150])
    return np.clip(sky, 0, 255).astype(np.uint8)


def _skyline(canvas, camera, air, rng) -> None:
    """Hills, a wood, distant blocks: one band behind the other, each with its own haze."""
    w = camera.width
    columns = np.arange(-40, w + 41, 3, dtype=np.float32)
    span = camera.height / 360
    bands = []
    for z in sorted(rng.uniform(250, 900, rng.integers(0, 3)), reverse=True):
        shape = sample_noise(columns * 0.5 / span + rng.integers(512), np.full_like(columns, rng.integers(512)), 0)
        bands.append((z, (18 + 13 * shape) * rng.uniform(0.6, 2.2), np.array([92, 100, 84.0]), 0.0))
    for z in (rng.uniform(110, 190), rng.uniform(70, 110)):
        wide = sample_noise(columns * 0.9 / span + rng.integers(512), np.full_like(columns, rng.integers(512)), 1)
        fine = sample_noise(columns * 9 / span + rng.integers(512), np.full_like(columns, rng.integers(512)), 2)
        open_land = rng.uniform(-0.4, 0.9)
        bands.append(
            (z, (9 + 8 * (wide + open_land)).clip(1.0) * 900 / z / 8 + 2.2 * fine, np.array([44, 78, 58.0]), 1.0)
        )
    for z, heights, colour, leafy in bands:
        tops = np.stack([columns, camera.horizon - heights * span], axis=1)
        foot = [[columns[-1], camera.horizon + 4], [columns[0], camera.horizon + 4]]
        outline = camera.turn(np.concatenate([tops, foot]))
        gain, offset = air.mix(float(z) * 0.6)
        colour = colour * rng.uniform(0.75, 1.15, 3)
        mask = np.zeros(canvas.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        rows = np.flatnonzero(mask.any(axis=1))
        if len(rows) == 0:
            continue
        part = slice(rows[0], rows[-1] + 1)
        uu, vv = np.meshgrid(np.arange(canvas.shape[1]), np.arange(part.start, part.stop))
        grain = 1 + (0.06 + 0.13 * leafy) * sample_noise(uu * 5 / span, vv * 7 / span, 2)[..., None]
        face = colour * grain * gain + offset
        a = mask[part][..., None] / 255.0
        canvas[part] = np.clip(canvas[part] * (1 - a) + face * a, 0, 255).astype(np.uint8)


def _cover(x, x0, x1, pixel):
    """Share of each pixel (`pixel` metres wide) that lies in x0..x1."""
    return (np.clip((x - x0) / pixel + 0.5, 0, 1) * np.clip((x1 - x) / pixel + 0.5, 0, 1))[..., None]


def _ground(canvas, camera, air, road, u, v, rng) -> None:
    below = v > camera.horizon
    rows = np.flatnonzero(below.any(axis=1))
    if len(rows) == 0:
        return
    part = slice(rows[0], camera.height)
    u, v, below = u[part], v[part], below[part]
    x, z = camera.ground(u, v)
    pixel = z / camera.focal
    fade = np.exp(-z / 60)[..., None]

    def rough(sx, sz, seed):
        return sample_noise(x * sx + 100, z * sz, seed)[..., None]

    dry = rng.uniform(0, 1)
    grass = np.array([48, 104, 78.0]) * (1 - dry) + np.array([92, 138, 148.0]) * dry
    colour = grass.astype(np.float32) * (
        1 + fade * (0.16 * rough(34, 20, 0) + 0.1 * rough(90, 60, 2)) + 0.1 * rough(4, 3, 1)
    )
    gravel = np.array([108, 128, 142.0], np.float32) * (1 + fade * 0.12 * rough(120, 70, 2))
    wet = 0.7 if air.rain else 1.0
    tar = rng.uniform(72, 132) * wet
    asphalt = np.float32([tar * 1.03, tar, tar * 0.98]) * (
        1 + fade * 0.09 * rough(160, 60, 2) + 0.03 * rough(12, 1.2, 1)
    )
    for x0, x1 in road.asphalt:
        a = _cover(x, x0 - 1.2, x1 + 1.2, pixel)
        colour = colour * (1 - a) + gravel * a
    for x0, x1 in road.asphalt:
        a = _cover(x + 0.12 * rough(6, 6, 1)[..., 0] * fade[..., 0], x0, x1, pixel)
        colour = colour * (1 - a) + asphalt * a
    for centre, _ in road.lanes:  # wheel tracks
        for s in (-0.8, 0.8):
            colour *= 1 - 0.09 * np.exp(-(((x - centre - s) / 0.35) ** 2))[..., None]
    paint = {"white": np.float32([205, 208, 208]), "yellow": np.float32([60, 170, 205])}
    worn = rng.uniform(0.5, 0.95)
    phase = rng.uniform(0, 12)
    for at, name, dashed in road.lines:
        a = _cover(x, at - 0.08, at + 0.08, pixel) * np.clip(worn + 0.25 * rough(60, 20, 0), 0, 1)
        if dashed:
            along = np.abs(np.mod(z + phase, 12) - 6)
            length = np.maximum(z * z / (camera.focal * camera.above), 0.05)
            a = a * np.clip((3 - along) / length + 0.5, 0.0, 1)[..., None]
        colour = colour * (1 - a) + paint[name] * a
    if rng.random() < 0.35:  # the shadow of something beside the road
        band = np.exp(-(((z - rng.uniform(9, 40)) / rng.uniform(1, 4)) ** 2)) * (sample_noise(x * 9, z * 9, 1) > -0.3)
        colour *= 1 - 0.35 * band[..., None]
    gain, offset = air.mix(np.minimum(z, 250))
    colour = colour * gain + offset
    if air.rain:  # the wet road mirrors the sky
        mirror = _cover(x, road.asphalt[0][0], road.asphalt[-1][1], pixel) * np.clip(z / 60, 0.05, 0.5)[..., None]
        colour = colour * (1 - mirror) + air.sky_low * mirror * 0.9
    canvas[part][below] = np.clip(colour, 0, 255).astype(np.uint8)[below]
