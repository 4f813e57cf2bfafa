"""Flat pictures that are put on things: noise, trees, sign faces, advertisements."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

WHITE, BLACK, YELLOW = (240, 242, 242), (22, 22, 24), (12, 190, 245)


@lru_cache(maxsize=8)
def noise_tile(seed: int = 0, size: int = 512) -> np.ndarray:
    """(size, size) float32 cloud noise of mean 0 and deviation 1 that repeats without a seam."""
    rng = np.random.default_rng([977, seed])
    total = np.zeros((size, size), np.float32)
    for octave in range(2, 9):
        n = min(size, 2**octave)
        grid = rng.normal(size=(n, n)).astype(np.float32)
        wrapped = np.pad(grid, 2, mode="wrap")
        scale = size // n
        big = cv2.resize(wrapped, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        total += big[2 * scale : 2 * scale + size, 2 * scale : 2 * scale + size] * 0.62**octave
    return (total - total.mean()) / total.std()


def sample_noise(u: np.ndarray, v: np.ndarray, seed: int = 0) -> np.ndarray:
    """noise_tile at (u, v) tile pixels, any shape, repeating."""
    tile = noise_tile(seed)
    period = 32 * tile.shape[0]  # a power of two: wrapping whole 1/32 pixels is much faster than np.mod
    maps = [((np.asarray(a) * 32).astype(np.int32) & (period - 1)) * np.float32(1 / 32) for a in (u, v)]
    return cv2.remap(
        tile, maps[0].astype(np.float32), maps[1].astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    ).reshape(u.shape)


@lru_cache(maxsize=1)
def tree_sprites() -> tuple[np.ndarray, ...]:
    """Fourteen (h, w, 4) uint8 BGRA trees: round crowns, slender ones, palms and bushes. The same in every run."""
    rng = np.random.default_rng(41)
    return tuple(_tree(kind, rng) for kind in ["round"] * 6 + ["slim"] * 3 + ["palm"] * 2 + ["bush"] * 3)


def _tree(kind: str, rng: np.random.Generator) -> np.ndarray:
    h, w = {"round": (240, 190), "slim": (250, 100), "palm": (250, 170), "bush": (110, 190)}[kind]
    image = np.zeros((h, w, 4), np.uint8)
    bark = (*(np.array([48, 66, 82]) * rng.uniform(0.6, 1.2)), 255)
    top = {"round": 0.5, "slim": 0.6, "palm": 0.2, "bush": 0.9}[kind]
    if kind != "bush":
        cv2.line(
            image, (w // 2, h), (int(w * rng.uniform(0.45, 0.55)), int(h * top)), bark, max(4, w // 22), cv2.LINE_AA
        )
    green = np.array([rng.uniform(25, 50), rng.uniform(72, 112), rng.uniform(42, 82)])
    if kind == "palm":
        for angle in np.linspace(-0.4, np.pi + 0.4, 13) + rng.normal(0, 0.12, 13):
            for t in np.linspace(0.05, 1, 26):
                x = w / 2 + np.cos(angle) * t * w * 0.47
                y = h * top - np.sin(angle) * t * h * 0.16 + t * t * h * 0.17
                colour = (*np.clip(green * rng.uniform(0.5, 1.25), 0, 255), 255)
                cv2.line(
                    image,
                    (int(x), int(y)),
                    (int(x + rng.normal(0, 5)), int(y + 15 * (1 - t) + 4)),
                    colour,
                    2,
                    cv2.LINE_AA,
                )
        return image
    centre_y, ry = {"round": (0.36, 0.34), "slim": (0.42, 0.41), "bush": (0.62, 0.38)}[kind]
    lumps = [(rng.uniform(-0.55, 0.55), rng.uniform(-0.6, 0.6), rng.uniform(0.35, 0.6)) for _ in range(11)]
    for i in range(1100):
        lx, ly, lr = lumps[i % len(lumps)]
        angle, radius = rng.uniform(0, 2 * np.pi), lr * np.sqrt(rng.uniform())
        x, y = lx + radius * np.cos(angle), ly + radius * np.sin(angle)
        light = 0.92 - 0.42 * (y + 0.3 * x) + rng.normal(0, 0.16) - 0.12 * (i < 350)
        colour = (*np.clip(green * max(light, 0.3), 0, 255), 255)
        at = (int(w * (0.5 + 0.42 * x)), int(h * (centre_y + ry * 0.85 * y)))
        cv2.ellipse(
            image, at, (int(rng.integers(3, 8)), int(rng.integers(2, 5))), rng.uniform(0, 180), 0, 360, colour, -1
        )
    return image


def glyphs(image, x: int, y: int, width: int, height: int, colour, rng: np.random.Generator) -> None:
    """A line of invented letters in the manner of Thai script: loops, stems, marks above."""
    step, weight = max(3, int(height * 0.72)), max(1, height // 7)
    for left in range(x, x + width - step, step):
        if rng.random() < 0.1:
            continue
        a, b, c = left, left + int(step * 0.68), int(height * 0.5)
        top, base = y + int(height * 0.3), y + height
        cv2.ellipse(
            image, ((a + b) // 2, top + c // 2), ((b - a) // 2, c // 2), 0, 150, 390, colour, weight, cv2.LINE_AA
        )
        for stem in (a, b)[: rng.integers(1, 3)]:
            cv2.line(image, (stem, top + c // 3), (stem, base), colour, weight, cv2.LINE_AA)
        cv2.circle(image, (a + weight, base - height // 8), max(1, height // 10), colour, 1, cv2.LINE_AA)
        if rng.random() < 0.35:
            cv2.ellipse(
                image,
                ((a + b) // 2, y + height // 6),
                (step // 4, height // 9),
                0,
                180,
                360,
                colour,
                weight,
                cv2.LINE_AA,
            )


def wear(image: np.ndarray, rng: np.random.Generator, amount: float = 1.0) -> np.ndarray:
    """Dirt, fading and uneven light on an (h, w, 3) uint8 face."""
    h, w = image.shape[:2]
    u, v = np.meshgrid(np.arange(w) + rng.integers(0, 512), np.arange(h) + rng.integers(0, 512))
    spots = sample_noise(u, v, 1)[..., None]
    grey = image.mean(axis=2, keepdims=True)
    faded = image + (grey + 30 - image) * rng.uniform(0, 0.42) * amount
    slope = 1 + np.linspace(-1, 1, h)[:, None, None] * rng.uniform(-0.1, 0.1)
    return np.clip(faded * slope * (1 + spots * rng.uniform(0.01, 0.07) * amount), 0, 255).astype(np.uint8)


def _arrow(image, x, y, size, angle, colour) -> None:
    d = np.array([np.cos(angle), -np.sin(angle)])
    n = np.array([-d[1], d[0]])
    tail, tip = np.array([x, y]) - d * size / 2, np.array([x, y]) + d * size / 2
    cv2.line(image, tail.astype(int), (tip - d * size * 0.25).astype(int), colour, max(2, int(size / 6)), cv2.LINE_AA)
    head = np.array([tip, tip - d * size * 0.45 + n * size * 0.32, tip - d * size * 0.45 - n * size * 0.32])
    cv2.fillPoly(image, [head.astype(np.int32)], colour, cv2.LINE_AA)


def information_face(aspect: float, rng: np.random.Generator) -> np.ndarray:
    """A direction sign: green, blue or (rarely) white ground, framed, with lines of text, arrows, distances."""
    h = 120
    w = int(h * aspect)
    ground, ink = [((78, 108, 12), WHITE), ((150, 82, 14), WHITE), ((232, 234, 234), BLACK), ((48, 72, 118), WHITE)][
        rng.choice(4, p=[0.5, 0.32, 0.1, 0.08])
    ]
    image = np.empty((h, w, 3), np.uint8)
    image[:] = np.clip(np.array(ground) * rng.uniform(0.8, 1.25), 0, 255)
    cv2.rectangle(image, (4, 4), (w - 5, h - 5), ink, int(rng.integers(2, 5)), cv2.LINE_AA)
    lines = int(rng.integers(1, 4))
    pitch = (h - 18) // lines
    arrows, numbers = rng.random() < 0.55, rng.random() < 0.6
    side = rng.choice([0, 1])
    for i in range(lines):
        y, size = 10 + i * pitch, int(min(pitch * rng.uniform(0.5, 0.75), 50))
        left, right = 14, w - 14
        if arrows:
            at = 14 + size // 2 if side == 0 else w - 14 - size // 2
            _arrow(image, at, y + pitch // 2, size, rng.choice([0, 0.5, 1, 0.75, 0.25]) * np.pi, ink)
            left, right = (left + size + 6, right) if side == 0 else (left, right - size - 6)
        if numbers and right - left > 2.2 * size:
            cv2.putText(
                image,
                str(rng.integers(2, 400)),
                (right - int(size * 1.1), y + (pitch + size) // 2 - 4),
                0,
                size / 34,
                ink,
                2,
                cv2.LINE_AA,
            )
            right -= int(size * 1.3)
        glyphs(image, left, y + (pitch - size) // 2, max(8, int((right - left) * rng.uniform(0.6, 1))), size, ink, rng)
    return wear(image, rng)


def warning_face(rng: np.random.Generator) -> np.ndarray:
    """A yellow diamond's face, upright square (to be turned by 45 degrees): border and a black symbol."""
    side = 96
    image = np.empty((side, side, 3), np.uint8)
    image[:] = np.clip(np.array(YELLOW) * rng.uniform(0.82, 1.08) + rng.normal(0, 8, 3), 0, 255)
    cv2.rectangle(image, (5, 5), (side - 6, side - 6), BLACK, int(rng.integers(2, 5)), cv2.LINE_AA)
    # The symbol is drawn upright in the turned picture, so it is made upright and turned back.
    mark = np.zeros((side, side), np.uint8)
    c, kind = side // 2, rng.integers(0, 8)
    if kind == 0:  # bend
        mirror = rng.choice([-1, 1])
        path = np.array([[0, 26], [0, 4], [mirror * 5, -6], [mirror * 17, -18]]) + c
        cv2.polylines(mark, [path], False, 255, 9, cv2.LINE_AA)
        _arrow(mark, c + mirror * 16, c - 17, 20, np.pi * (0.5 - mirror * 0.25), 255)
    elif kind == 1:  # junction
        cv2.line(mark, (c, c - 26), (c, c + 26), 255, 9)
        cv2.line(mark, (c - 22 * rng.integers(0, 2), c), (c + 22, c), 255, 8)
    elif kind == 2:  # people
        for dx in (-10, 11):
            cv2.circle(mark, (c + dx, c - 19), 5, 255, -1, cv2.LINE_AA)
            cv2.line(mark, (c + dx, c - 13), (c + dx, c + 4), 255, 9)
            cv2.line(mark, (c + dx, c + 2), (c + dx - 8, c + 24), 255, 5)
            cv2.line(mark, (c + dx, c + 2), (c + dx + 7, c + 24), 255, 5)
    elif kind == 3:  # exclamation mark, signal
        cv2.line(mark, (c, c - 24), (c, c + 8), 255, 10)
        cv2.circle(mark, (c, c + 21), 6, 255, -1)
    elif kind == 4:  # lorry or animal
        cv2.rectangle(mark, (c - 25, c - 13), (c + 8, c + 10), 255, -1)
        cv2.rectangle(mark, (c + 10, c - 5), (c + 25, c + 10), 255, -1)
        for dx in (-15, 15):
            cv2.circle(mark, (c + dx, c + 13), 6, 255, -1)
    elif kind == 5:  # narrowing
        cv2.polylines(mark, [np.array([[-14, 26], [-14, 4], [-6, -6], [-6, -26]]) + c], False, 255, 7)
        cv2.polylines(mark, [np.array([[14, 26], [14, 4], [6, -6], [6, -26]]) + c], False, 255, 7)
    elif kind == 6:  # winding
        cv2.polylines(
            mark, [np.array([[-8, 27], [-8, 12], [8, 2], [8, -6], [-7, -14]]) + c], False, 255, 8, cv2.LINE_AA
        )
        _arrow(mark, c - 5, c - 19, 20, np.pi * 0.5, 255)
    else:  # two ways
        _arrow(mark, c - 11, c, 48, np.pi / 2, 255)
        _arrow(mark, c + 11, c, 48, -np.pi / 2, 255)
    turn = cv2.getRotationMatrix2D((c, c), 45, 1.0)
    mark = cv2.warpAffine(mark, turn, (side, side))[..., None] / 255
    return wear((image * (1 - mark) + np.array(BLACK) * mark).astype(np.uint8), rng)


def regulatory_face(rng: np.random.Generator) -> np.ndarray:
    """(96, 96, 3) face of a round sign: a limit, a prohibition or a command."""
    image = np.full((96, 96, 3), 235, np.uint8)
    kind = rng.integers(0, 3)
    if kind == 2:
        image[:] = (150, 80, 10)
        _arrow(image, 48, 48, 56, rng.choice([0, 0.5, 1]) * np.pi, WHITE)
    else:
        if kind == 0:
            cv2.putText(image, str(rng.choice([30, 50, 60, 80, 90])), (20, 62), 0, 1.5, BLACK, 4, cv2.LINE_AA)
        cv2.circle(image, (48, 48), 44, (40, 30, 200), 9, cv2.LINE_AA)
        if kind == 1:
            cv2.line(image, (18, 18), (78, 78), (40, 30, 200), 9, cv2.LINE_AA)
            cv2.rectangle(image, (36, 34), (60, 62), BLACK, 4)
    return wear(image, rng)


def advertisement(aspect: float, rng: np.random.Generator) -> np.ndarray:
    """A billboard: a two-colour picture without a frame, blobs, slanted bands, big lettering; any colour at all."""
    h = 120
    w = max(24, int(h * aspect))
    a, b = rng.uniform(10, 245, 3), rng.uniform(10, 245, 3)
    if rng.random() < 0.3:
        a = np.array([(78, 120, 12), (160, 82, 14), YELLOW][rng.integers(0, 3)], float)
    ramp = np.linspace(0, 1, w)[None, :, None] * rng.uniform(0, 1) + np.linspace(0, 1, h)[:, None, None] * rng.uniform(
        0, 0.6
    )
    image = np.clip(a * (1 - np.clip(ramp, 0, 1)) + b * np.clip(ramp, 0, 1), 0, 255).astype(np.uint8)
    for _ in range(rng.integers(1, 5)):
        colour = rng.uniform(0, 255, 3).tolist()
        at = (int(rng.integers(0, w)), int(rng.integers(0, h)))
        if rng.random() < 0.6:
            axes = (int(rng.integers(8, 45)), int(rng.integers(8, 45)))
            cv2.ellipse(image, at, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
        else:
            cv2.line(
                image,
                at,
                (int(rng.integers(0, w)), int(rng.integers(0, h))),
                colour,
                int(rng.integers(5, 28)),
                cv2.LINE_AA,
            )
    for _ in range(rng.integers(1, 4)):
        size = int(rng.integers(16, 46))
        ink = [WHITE, BLACK, (30, 30, 200), YELLOW][rng.integers(0, 4)]
        glyphs(
            image,
            int(rng.integers(0, w // 2)),
            int(rng.integers(2, h - size - 2)),
            int(w * rng.uniform(0.3, 0.6)),
            size,
            ink,
            rng,
        )
    return wear(image, rng, 0.8)


def bus_face(rng: np.random.Generator) -> np.ndarray:
    """(64, 64, 3) blue plate with a white bus."""
    image = np.empty((64, 64, 3), np.uint8)
    image[:] = np.clip(np.array([165, 80, 20]) * rng.uniform(0.8, 1.2), 0, 255)
    cv2.rectangle(image, (12, 16), (52, 44), WHITE, -1)
    cv2.rectangle(image, (16, 20), (48, 31), (120, 60, 20), -1)
    cv2.circle(image, (20, 47), 5, WHITE, -1)
    cv2.circle(image, (44, 47), 5, WHITE, -1)
    return image


def roof_tiles(colour, rng: np.random.Generator) -> np.ndarray:
    """(64, 96, 3) rows of tiles."""
    image = np.empty((64, 96, 3), np.float32)
    image[:] = colour
    image[::6] *= 0.72
    image[1::6] *= 0.88
    image *= 1 + rng.normal(0, 0.07, (64, 96, 1))
    image *= (
        1
        + 0.12
        * sample_noise(*np.meshgrid(np.arange(96) + rng.integers(512), np.arange(64) + rng.integers(512)))[..., None]
    )
    return np.clip(image, 0, 255).astype(np.uint8)
