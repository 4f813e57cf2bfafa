"""What the lens, the weather and the sensor do to the finished picture. Nothing here moves an edge by geometry."""

from __future__ import annotations

import cv2
import numpy as np

from .camera import Atmosphere
from .textures import sample_noise


def finish(
    canvas: np.ndarray, air: Atmosphere, lamps: list[tuple[float, float, float]], rng: np.random.Generator
) -> np.ndarray:
    """(H, W, 3) uint8 scene -> the photograph. `lamps`: (u, v, radius in pixels) of lights that bloom."""
    h, w = canvas.shape[:2]
    image = canvas.astype(np.float32)
    u, v = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    if lamps:
        _bloom(image, lamps)
    if air.light in ("day", "dusk") and not air.rain and rng.random() < 0.14:  # glare: the sun in or near the frame
        at = (w * rng.uniform(0, 1), h * rng.uniform(-0.1, 0.35))
        far = np.hypot(u - at[0], v - at[1])[..., None] / w
        image += np.float32([110, 145, 165]) * np.exp(-far / rng.uniform(0.05, 0.11))
        image = image * 0.9 + rng.uniform(10, 30)
    if air.rain:
        image = _rain(image, air.rain, rng)
    if rng.random() < 0.35:  # dirt and drops on the windscreen: soft, darker or milky
        veil = np.clip(
            sample_noise(u * 0.5 * 640 / w + rng.integers(512), v * 0.5 * 640 / w + rng.integers(512), 0) - 0.9, 0, 1
        )
        image += veil[..., None] * rng.uniform(-22, 30)
    fall = 1 - rng.uniform(0, 0.3) * (((u / w - 0.5) ** 2 + (v / h - 0.5) ** 2) * 2)[..., None]
    contrast, bright = rng.uniform(0.82, 1.15), rng.normal(0, 7)
    image = (image * fall - 118) * contrast + 118 + bright
    image *= 1 + rng.normal(0, 0.025, 3).astype(np.float32)
    image = _blur(image, w, air, rng)
    sigma = rng.uniform(1.0, 4.0) + (rng.uniform(3.0, 8.0) if air.light == "night" else 0.0)
    noise = np.empty((h, w, 3), np.int16)
    cv2.setRNGSeed(int(rng.integers(0, 2**31 - 1)))
    cv2.randn(noise, 0, 256)
    image += noise * np.float32(sigma / 256)
    return np.clip(image, 0, 255).astype(np.uint8)


def _bloom(image: np.ndarray, lamps) -> None:
    for u, v, radius in lamps:
        r = int(max(5, radius * 5))
        x0, y0, x1, y1 = (
            max(0, int(u) - r),
            max(0, int(v) - r),
            min(image.shape[1], int(u) + r),
            min(image.shape[0], int(v) + r),
        )
        if x1 <= x0 or y1 <= y0:
            continue
        du, dv = np.arange(x0, x1)[None] - u, np.arange(y0, y1)[:, None] - v
        glow = np.clip(1 - np.hypot(du, dv) / r, 0, 1)[..., None] ** 2.5
        image[y0:y1, x0:x1] += np.float32([110, 170, 200]) * glow


def _rain(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    h, w = image.shape[:2]
    layer = np.zeros((h, w), np.uint8)
    slant = rng.normal(0, 0.25)
    for _ in range(int(220 * strength * w * h / (640 * 360)) + 10):
        x, y, length = rng.uniform(-20, w + 20), rng.uniform(-20, h), rng.uniform(0.02, 0.06) * h * (0.5 + strength)
        end = (int(x + slant * length), int(y + length))
        cv2.line(layer, (int(x), int(y)), end, int(rng.integers(50, 150)), 1, cv2.LINE_AA)
    layer = cv2.GaussianBlur(layer, (3, 3), 0)[..., None] / np.float32(255)
    image = image * (1 - 0.5 * layer) + 215 * 0.5 * layer
    return image * (1 - 0.06 * strength) + 11 * strength


def _blur(image: np.ndarray, width: int, air: Atmosphere, rng: np.random.Generator) -> np.ndarray:
    """Defocus, or the motion of a vehicle: both short, so that the drawn edges stay where they are annotated."""
    scale = width / 640
    kind = rng.random()
    if kind < 0.3:
        return cv2.GaussianBlur(
            image, (0, 0), max(0.2, rng.uniform(0.4, 1.25 if air.rain or air.light == "night" else 0.95) * scale)
        )
    if kind < 0.5:
        length = max(1, round(rng.uniform(2, 6) * scale))
        kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
        angle = rng.normal(0, 0.3) + (np.pi / 2 if rng.random() < 0.35 else 0)
        d = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        a, b = np.round((length - d) * 16).astype(int), np.round((length + d) * 16).astype(int)
        cv2.line(kernel, a.tolist(), b.tolist(), 1.0, 1, cv2.LINE_8, 4)
        total = kernel.sum()
        return cv2.filter2D(image, -1, kernel / total) if total else image
    return image
