"""Little solids in front of a camera: faces to polygons, polygons to pixels and to an instance-id buffer."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from .camera import Atmosphere, Camera

SHIFT = 4  # sub-pixel bits of cv2's polygons


@dataclass
class Prim:
    """One thing to fill: a polygon (flat or textured), or a sprite with transparency."""

    points: np.ndarray  # (N, 2) float pixels; a sprite: its (2, 2) corners
    colour: np.ndarray  # (3,) BGR, shaded, before air
    texture: np.ndarray | None = None  # (h, w, 3) uint8, its corners on points[0:4]; sprite: (h, w, 4)
    glow: float = 0.0
    alpha: float = 1.0  # below 1: a shadow or a light; never in the id buffer
    shade: float = 1.0  # for textures
    sprite: bool = False
    outline: np.ndarray | None = None  # (M, 2): fill this instead of `points`, which still place the texture

    @property
    def filled(self) -> np.ndarray:
        return self.points if self.outline is None else self.outline


@dataclass
class Item:
    """Primitives that share a distance; `label` > 0 is an annotated object (several items may share one)."""

    depth: float
    prims: list[Prim]
    label: int = 0
    footprint: tuple[float, float, float, float] | None = None  # X0, Z0, X1, Z1 metres

    def bounds(self) -> tuple[float, float, float, float]:
        """(u0, v0, u1, v1) of the opaque primitives, not clipped to the picture."""
        points = np.concatenate([p.points for p in self.prims if p.alpha >= 1])
        return (*points.min(axis=0), *points.max(axis=0))


@dataclass
class Mesh:
    """Convex parts in an object's own metres (origin on the ground), painted from far to near."""

    parts: list[tuple] = field(default_factory=list)

    def solid(self, faces: list[np.ndarray], colour, *, bias: float = 0.0, glow: float = 0.0) -> None:
        """A convex solid from its faces, each (n, 3); those that look away are dropped."""
        self.parts.append(("solid", faces, np.asarray(colour, float), bias, glow))

    def box(self, centre, size, colour, *, bias: float = 0.0, glow: float = 0.0) -> None:
        """An upright box; centre is (x, y of the bottom, z), size (x, y, z)."""
        (x, y, z), (a, h, b) = centre, size
        low, high = (x - a / 2, y, z - b / 2), (x + a / 2, y + h, z + b / 2)
        corner = np.array(
            [[(low, high)[i][0], (low, high)[j][1], (low, high)[k][2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        )
        index = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))
        self.solid([corner[list(i)] for i in index], colour, bias=bias, glow=glow)

    def prism(self, profile, z0: float, z1: float, colour, *, bias: float = 0.0, along: str = "z") -> None:
        """Extrude a convex profile [(a, y), ...] along z (a is x) or along x (a is z)."""
        profile = np.asarray(profile, float)

        def lift(t):
            other = np.full(len(profile), t)
            pair = (profile[:, 0], profile[:, 1], other) if along == "z" else (other, profile[:, 1], profile[:, 0])
            return np.stack(pair, axis=1)

        front, back = lift(z0), lift(z1)
        n = len(profile)
        sides = [np.stack([front[i], front[(i + 1) % n], back[(i + 1) % n], back[i]]) for i in range(n)]
        self.solid([front, back, *sides], colour, bias=bias)

    def plate(
        self, corners, colour=(200, 200, 200), *, texture=None, glow=0.0, bias=0.0, alpha=1.0, disc=False
    ) -> None:
        """A flat polygon seen from both sides; a texture's corners (TL, TR, BR, BL) lie on the first four.

        `disc` cuts the circle inscribed in the four corners out of it.
        """
        part = (np.asarray(corners, float), np.asarray(colour, float), texture, glow, bias, alpha, disc)
        self.parts.append(("plate", *part))

    def rod(self, start, end, width0: float, width1: float, colour, *, bias=0.0, glow=0.0, least=1.3) -> None:
        """A round bar, drawn as a band that never gets thinner than `least` pixels."""
        part = (np.array([start, end], float), (width0, width1), np.asarray(colour, float), bias, glow, least)
        self.parts.append(("rod", *part))

    def item(self, camera: Camera, air: Atmosphere, at, yaw: float = 0.0, label: int = 0, footprint=None) -> Item:
        """Put the mesh at `at` = (x, z) metres, turned by yaw (radians), and project it."""
        c, s = np.cos(yaw), np.sin(yaw)
        eye = np.array([0.0, camera.above, 0.0])

        def world(p):
            return np.stack([c * p[:, 0] + s * p[:, 2] + at[0], p[:, 1], -s * p[:, 0] + c * p[:, 2] + at[1]], axis=1)

        painted = []
        for part in self.parts:
            kind = part[0]
            if kind == "solid":
                splits = np.cumsum([len(f) for f in part[1]])[:-1]
                faces = np.split(world(np.concatenate(part[1])), splits)
                middle = sum(f.sum(axis=0) / len(f) for f in faces) / len(faces)
                prims = _solid_prims(camera, air, faces, middle, eye, part[2], part[4])
                bias = part[3]
            elif kind == "plate":
                corners, colour, texture, glow, bias, alpha, disc = part[1:]
                points = world(corners)
                middle = points.mean(axis=0)
                normal = _normal(points)
                shade = _shade(normal if normal @ (eye - middle) > 0 else -normal, air)
                outline = camera.project(_inscribed(points)) if disc else None
                prims = [Prim(camera.project(points), colour * shade, texture, glow, alpha, shade, outline=outline)]
            else:
                ends, widths, colour, bias, glow, least = part[1:]
                points = world(ends)
                middle = points.mean(axis=0)
                prims = _rod_prims(camera, points, widths, colour, glow, least)
            painted.append((-float(np.linalg.norm(middle - eye)) + bias, prims))
        painted.sort(key=lambda pair: pair[0])
        return Item(float(at[1]), [p for _, prims in painted for p in prims], label, footprint)


def _normal(face: np.ndarray) -> np.ndarray:
    """(n, 3) corners -> (3,) normal, not scaled. np.cross takes ten times as long on one pair."""
    (a, b, c), (d, e, f), (g, h, i) = face[:3].tolist()
    x0, y0, z0, x1, y1, z1 = d - a, e - b, f - c, g - d, h - e, i - f
    return np.array([y0 * z1 - z0 * y1, z0 * x1 - x0 * z1, x0 * y1 - y0 * x1])


def _inscribed(corners: np.ndarray, n: int = 24) -> np.ndarray:
    """(4, 3) corners of a square -> (n, 3) points of its circle."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)[:, None]
    a, b = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    return corners.mean(axis=0) + a * np.cos(angle) + b * np.sin(angle)


def _shade(normal: np.ndarray, air: Atmosphere) -> float:
    """0.55..1.1: how bright a face looks, by its outward normal."""
    length = float(normal @ normal) ** 0.5
    if length < 1e-9:
        return 0.8
    strength = {"day": 0.42, "dusk": 0.3}.get(air.light, 0.16)
    return float(0.98 - strength + strength * 1.3 * max(0.0, normal @ air.sun / length) + 0.08 * normal[1] / length)


def _solid_prims(camera, air, faces, middle, eye, colour, glow) -> list[Prim]:
    seen, outlines = [], np.split(camera.project(np.concatenate(faces)), np.cumsum([len(f) for f in faces])[:-1])
    for face, outline in zip(faces, outlines, strict=True):
        centre = face.sum(axis=0) / len(face)
        normal = _normal(face)
        if normal @ (centre - middle) < 0:
            normal = -normal
        if normal @ (eye - centre) > 0:
            seen.append(Prim(outline, colour * _shade(normal, air), None, glow))
    return seen


def _rod_prims(camera, points, widths, colour, glow, least) -> list[Prim]:
    uv = camera.project(points)
    direction = uv[1] - uv[0]
    length = np.hypot(*direction)
    if length < 0.3:
        return []
    normal = np.array([-direction[1], direction[0]]) / length
    if normal[0] > 0:
        normal = -normal  # from the left edge to the right one
    half = [max(least, camera.focal * w / max(z, 0.8)) / 2 for w, z in zip(widths, points[:, 2], strict=True)]
    outline = np.array(
        [uv[0] + normal * half[0], uv[1] + normal * half[1], uv[1] - normal * half[1], uv[0] - normal * half[0]]
    )
    prims = [Prim(outline, colour * 0.92, None, glow)]
    if max(half) > 1.5:  # a lit and a dark side make it round
        for a, b, gain in ((1.0, 0.35, 1.1), (-0.3, -1.0, 0.66)):
            strip = [uv[0] + normal * half[0] * a, uv[1] + normal * half[1] * a]
            strip += [uv[1] + normal * half[1] * b, uv[0] + normal * half[0] * b]
            prims.append(Prim(np.array(strip), colour * gain, None, glow))
    return prims


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.clip(np.round(points * (1 << SHIFT)), -(1 << 20), 1 << 20).astype(np.int32)


def _window(points: np.ndarray, shape) -> tuple[int, int, int, int] | None:
    """Columns and rows of the picture that the points touch, or None."""
    us, vs = points.T.tolist()
    x0, y0 = max(int(min(us)) - 2, 0), max(int(min(vs)) - 2, 0)
    x1, y1 = min(int(max(us)) + 3, shape[1]), min(int(max(vs)) + 3, shape[0])
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _sprite_patch(prim: Prim, shape) -> tuple | None:
    (x0, y0), (x1, y1) = np.round(prim.points).astype(int)
    w, h = max(1, x1 - x0), max(1, y1 - y0)
    a, b, c, d = max(x0, 0), max(y0, 0), min(x0 + w, shape[1]), min(y0 + h, shape[0])
    if c <= a or d <= b:
        return None
    patch = cv2.resize(
        prim.texture, (w, h), interpolation=cv2.INTER_AREA if w < prim.texture.shape[1] else cv2.INTER_LINEAR
    )
    return patch[b - y0 : d - y0, a - x0 : c - x0], (a, b, c, d)


def stamp(item: Item, ids: np.ndarray, value: int) -> None:
    """Write `value` where the item's opaque pixels are; ids is (H, W) uint8."""
    for prim in item.prims:
        if prim.alpha < 1:
            continue
        if prim.sprite:
            found = _sprite_patch(prim, ids.shape)
            if found:
                patch, (a, b, c, d) = found
                ids[b:d, a:c][patch[..., 3] > 127] = value
        elif _window(prim.points, ids.shape):
            cv2.fillPoly(ids, [_fixed(prim.filled)], int(value), cv2.LINE_8, SHIFT)


def paint(item: Item, canvas: np.ndarray, air: Atmosphere) -> None:
    """Draw the item on a (H, W, 3) uint8 picture, with the light and the air of its distance."""
    light = {glow: air.mix(item.depth, glow) for glow in {prim.glow for prim in item.prims}}
    for prim in item.prims:
        gain, offset = light[prim.glow]
        if prim.sprite:
            found = _sprite_patch(prim, canvas.shape)
            if found:
                patch, (a, b, c, d) = found
                _blend(canvas, (a, b, c, d), patch[..., :3] * (gain * prim.shade) + offset, patch[..., 3:])
            continue
        window = _window(prim.points, canvas.shape)
        if window is None:
            continue
        colour = np.clip(prim.colour * gain + offset, 0, 255)
        if prim.texture is None and prim.alpha >= 1:
            cv2.fillPoly(canvas, [_fixed(prim.points)], colour.tolist(), cv2.LINE_AA, SHIFT)
            continue
        x0, y0, x1, y1 = window
        shape = (y1 - y0, x1 - x0)
        local = prim.points - (x0, y0)
        cover = np.zeros(shape, np.uint8)
        cv2.fillPoly(cover, [_fixed(prim.filled - (x0, y0))], int(255 * min(prim.alpha, 1.0)), cv2.LINE_AA, SHIFT)
        face = colour
        if prim.texture is not None:
            face = _warp(prim.texture, local[:4], shape) * (gain * prim.shade) + offset
        _blend(canvas, window, face, cover[..., None])


def _warp(texture: np.ndarray, quad: np.ndarray, shape) -> np.ndarray:
    wide = max(np.hypot(*(quad[1] - quad[0])), np.hypot(*(quad[2] - quad[3])))
    tall = max(np.hypot(*(quad[3] - quad[0])), np.hypot(*(quad[2] - quad[1])))
    h, w = texture.shape[:2]
    if w > 1.3 * wide or h > 1.3 * tall:  # shrink first: warpPerspective alone would alias
        w, h = max(2, min(w, int(wide))), max(2, min(h, int(tall)))
        texture = cv2.resize(texture, (w, h), interpolation=cv2.INTER_AREA)
    source = np.float32([[-0.5, -0.5], [w - 0.5, -0.5], [w - 0.5, h - 0.5], [-0.5, h - 0.5]])
    matrix = cv2.getPerspectiveTransform(source, quad.astype(np.float32))
    return cv2.warpPerspective(texture, matrix, (shape[1], shape[0]), borderMode=cv2.BORDER_REPLICATE)


def _blend(canvas, window, colour, alpha) -> None:
    x0, y0, x1, y1 = window
    region = canvas[y0:y1, x0:x1]
    a = alpha.astype(np.float32) / 255
    region[:] = np.clip(region * (1 - a) + colour * a, 0, 255).astype(np.uint8)
