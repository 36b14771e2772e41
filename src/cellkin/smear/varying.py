"""Another stain, lamp, lens and camera, as between laboratories.

Stain and lamp vary in optical density d: d -> max(0, M d) g with M near the unit matrix and g per
channel; the picture is then blurred, made noisy and coded as JPEG, or left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cellkin.core.arrays import Bytes, Singles
from cellkin.smear.light import WHITE

Rng = np.random.Generator


@dataclass(frozen=True)
class SceneOptions:
    """How pictures are painted.

    Attributes:
        size: side in pixels. red_cell: diameter of a red cell in pixels at zoom 1.
        zoom: range of log zoom, to either side. pasted: share of pictures with pasted cells.
        blank: share of pictures on nothing but empty ground.
        stain, gain: of the changes in optical density. plain: share of pictures left as they are.
    """

    size: int = 192
    red_cell: float = 24.0
    zoom: float = 0.5
    pasted: float = 0.55
    blank: float = 0.04
    stain: float = 0.2
    gain: float = 0.35
    plain: float = 0.15


def vary(rgb: Bytes, rng: Rng, options: SceneOptions) -> Bytes:
    """A picture (S, S, 3) whose ground is `WHITE`, as another laboratory would have taken it."""
    if rng.random() < options.plain:
        return rgb
    density = -np.log((rgb.astype(np.float32) + 1) / (WHITE + 1))
    strength = float(rng.uniform(0, 1))
    mix = np.eye(3) + strength * options.stain * rng.standard_normal((3, 3))
    gain = np.exp(strength * options.gain * rng.standard_normal(3) + 0.25 * rng.standard_normal())
    density = np.maximum(density @ (mix * gain[:, None]).T.astype(np.float32), 0)
    light = WHITE * np.exp(-density) * _lamp(rgb.shape[0], rng)
    picture = np.clip(light, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        picture = _blurred(picture, rng)
    if rng.random() < 0.6:
        noise = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0, 8))
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))]
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_COLOR)
    return np.asarray(picture, np.uint8)


def _lamp(size: int, rng: Rng) -> Singles:
    """Relative light (size, size, 3): nearly even mostly, as strong as a bad lamp's at times."""
    uneven = 0.03 if rng.random() < 0.8 else 0.3
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, size, dtype=np.float32)])
    planes = []
    turn, tint = rng.uniform(0, 2 * np.pi), np.exp(rng.normal(0, 0.04 if uneven < 0.1 else 0.15, 3))
    for colour in tint:
        slope = uneven * rng.uniform(0.5, 1)
        planes.append(colour * np.exp(-slope * (np.cos(turn) * x + np.sin(turn) * y + 0.3 * x * x)))
    return np.asarray(np.stack(planes, axis=2), np.float32)


def _blurred(rgb: Bytes, rng: Rng) -> Bytes:
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(rgb, (0, 0), float(rng.uniform(0.4, 1.6))), np.uint8)
    small = int(rgb.shape[0] / rng.uniform(1.3, 2.5))
    down = cv2.resize(rgb, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(down, rgb.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
