"""The survey vehicle's camera, and the light and air between it and the scene.

World: metres, X to the right, Y up (ground 0), Z forward, camera over (0, 0). Images: pixels, BGR.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Camera:
    """Pinhole camera; roll turns the picture about its centre, `curve` bends the road by curve * Z^2 metres."""

    width: int
    height: int
    focal: float  # pixels
    cx: float  # column of the vanishing point (pan)
    horizon: float  # row of the horizon before roll
    above: float  # metres over the road
    curve: float  # 1/metre
    roll: float  # radians

    @classmethod
    def sample(cls, width: int, height: int, rng: np.random.Generator) -> Camera:
        # The field of view follows the longer need: a square or tall picture still sees both road sides.
        focal = width * rng.uniform(0.72, 1.0)
        return cls(
            width=width,
            height=height,
            focal=focal,
            cx=width * rng.uniform(0.40, 0.60),
            horizon=height * rng.uniform(0.40, 0.62),
            above=rng.uniform(1.4, 2.5),
            curve=float(rng.choice([0.0, rng.normal(0, 0.0007)])),  # a numpy scalar would make the ground float64
            roll=float(np.deg2rad(rng.normal(0, 1.6))),
        )

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) world metres -> (N, 2) float pixels. Z is held at 0.8 m or more: nothing turns inside out."""
        z = np.maximum(points[:, 2], 0.8)
        u = self.cx + self.focal * (points[:, 0] / z + self.curve * z)
        v = self.horizon + self.focal * (self.above - points[:, 1]) / z
        return self.turn(np.stack([u, v], axis=1))

    def turn(self, uv: np.ndarray) -> np.ndarray:
        """Apply the roll to (N, 2) pixels of the level picture."""
        c, s = np.cos(self.roll), np.sin(self.roll)
        x, y = uv[:, 0] - self.width / 2, uv[:, 1] - self.height / 2
        return np.stack([c * x - s * y + self.width / 2, s * x + c * y + self.height / 2], axis=1)

    def level_grid(self) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) float32 columns and rows of each pixel in the level (unrolled) picture."""
        x = np.arange(self.width, dtype=np.float32)[None] - self.width / 2
        y = np.arange(self.height, dtype=np.float32)[:, None] - self.height / 2
        c, s = np.float32(np.cos(self.roll)), np.float32(np.sin(self.roll))
        return c * x + s * y + self.width / 2, -s * x + c * y + self.height / 2

    def ground(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Level pixels below the horizon -> world X and Z of the ground there, metres (Z at most 400)."""
        z = self.focal * self.above / np.maximum(v - self.horizon, self.focal * self.above / 400)
        return (u - self.cx) * z / self.focal - self.curve * z * z, z


LIGHTS = ("day", "overcast", "dusk", "night")


@dataclass
class Atmosphere:
    """Time of day and air. Colours BGR, 0..255; gains multiply a surface's own colour."""

    light: str
    ambient: np.ndarray  # (3,)
    sun: np.ndarray  # (3,) unit vector towards the light
    fog: np.ndarray  # (3,) colour of the air
    density: float  # 1/metre
    headlight: float
    sky_top: np.ndarray
    sky_low: np.ndarray
    rain: float  # 0..1

    @classmethod
    def sample(cls, rng: np.random.Generator, difficulty: float = 1.0) -> Atmosphere:
        """Light and weather; at difficulty 0 always a clear day, at 1 the full mix."""
        mix = difficulty * np.array([0.48, 0.24, 0.15, 0.13]) + (1 - difficulty) * np.array([1.0, 0, 0, 0])
        light = str(rng.choice(LIGHTS, p=mix))
        rain = (
            float(rng.uniform(0.3, 1.0)) if rng.random() < difficulty * (0.3 if light == "overcast" else 0.08) else 0.0
        )
        tint = rng.normal(0, 0.03, 3)
        hazy = rng.random() < 0.28 * difficulty
        density = rng.uniform(0.012, 0.028) if hazy else rng.uniform(0.0015, 0.006)
        side = rng.choice([-1.0, 1.0])
        sun = np.array([side * rng.uniform(0.3, 1.0), rng.uniform(0.4, 1.0), rng.uniform(-1.0, 0.5)])
        headlight = 0.0
        if light == "day":
            ambient = np.array([0.98, 1.0, 1.02]) * rng.uniform(0.88, 1.12)
            top, low = np.array([205, 140, 75]) * rng.uniform(0.8, 1.15), np.array([238, 218, 196.0])
        elif light == "overcast":
            ambient = np.array([0.92, 0.9, 0.88]) * rng.uniform(0.68, 0.95)
            grey = rng.uniform(135, 215)
            top, low = np.full(3, grey * 0.88) + [8, 2, 0], np.full(3, grey + 12)
        elif light == "dusk":
            ambient = np.array([0.62, 0.66, 0.82]) * rng.uniform(0.62, 0.95)
            top, low = np.array([120, 78, 66]) * rng.uniform(0.7, 1.2), np.array([105, 160, 236]) * rng.uniform(0.75, 1)
            sun = np.array([sun[0], 0.25, 0.8])
            headlight = rng.uniform(0.0, 0.35)
        else:
            ambient = np.array([0.34, 0.27, 0.24]) * rng.uniform(0.6, 1.25)
            top, low = np.array([26, 16, 12]) * rng.uniform(0.6, 1.6), np.array([48, 38, 36]) * rng.uniform(0.7, 1.8)
            headlight = rng.uniform(0.5, 0.95)
        if rain:
            density = max(density, rng.uniform(0.008, 0.02))
            grey = low.mean()
            top, low = 0.4 * top + 0.6 * grey * 0.85, 0.4 * low + 0.6 * grey
            ambient = ambient * 0.9
        fog = np.clip(0.75 * low + 0.25 * low.mean(), 0, 250)
        return cls(
            light,
            ambient * (1 + tint),
            sun / np.linalg.norm(sun),
            fog,
            float(density),
            float(headlight),
            top,
            low,
            rain,
        )

    def mix(self, z, glow: float = 0.0):
        """Gain and offset that turn a surface's colour at distance z (metres) into what the camera sees.

        z: float or (...,) array; glow: 0 matt, 0..1 retro-reflecting (signs), 1.5 emitting (windows), 2 also
        blooming (lamps).
        Returns (..., 3) gain and (..., 3) offset.
        """
        z = np.asarray(z, np.float32)[..., None]
        through = np.exp(-self.density * z)
        gain = self.ambient.astype(np.float32) + self.headlight * np.exp(-z / 20) * np.float32([0.85, 0.95, 1.0])
        if glow >= 1.5:
            gain = np.maximum(gain, 1.1)
        elif glow > 0:
            gain = gain + glow * self.headlight * 0.9 * np.exp(-z / 60)
        return gain * through, self.fog.astype(np.float32) * (1 - through)
