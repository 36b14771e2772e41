"""What adaptive unsharpening does: drawn cells blurred by known amounts against their originals.

Median over drawn cells (seed 0, prepared at 224 pixels) of PSNR in decibels and SSIM to the
unblurred image, and of the focus score, before and after; with a folder of cells as argument also
its focus by class before and after. The last line is one JSON object.
"""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cellkin import datasets
from cellkin.core.arrays import Bytes
from cellkin.drawing.drawn import draw_cell, subject_style
from cellkin.imaging.focus import focus_score
from cellkin.imaging.loading import load_prepared
from cellkin.imaging.preprocess import packaged_lite0
from cellkin.imaging.sharpening import unsharpen

CELLS = 24


def drawn() -> list[Bytes]:
    rng = np.random.default_rng(0)
    kinds = ("lymphocyte", "lymphoblast", "neutrophil", "nothing")
    return [draw_cell(kinds[i % 4], rng, subject_style(rng), 224)[0] for i in range(CELLS)]


def likeness(image: Bytes, other: Bytes) -> tuple[float, float, float]:
    return (
        float(peak_signal_noise_ratio(image, other, data_range=255)),
        float(structural_similarity(image, other, channel_axis=2, data_range=255)),
        focus_score(other),
    )


def blurred_rows(noise: float) -> dict[str, list[float]]:
    images, rng, rows = drawn(), np.random.default_rng(1), {}
    for sigma in (1.0, 1.5, 2.0, 3.0):
        figures = []
        for image in images:
            soft = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma)
            soft = soft + rng.normal(0, noise, soft.shape) if noise else soft
            seen = np.clip(np.rint(soft), 0, 255).astype(np.uint8)
            figures.append((*likeness(image, seen), *likeness(image, unsharpen(seen))))
        rows[str(sigma)] = [round(v, 3) for v in np.median(figures, axis=0).tolist()]
        print(f"blur {sigma}, noise {noise}: {rows[str(sigma)]}")
    return rows


def class_rows(folder: str) -> dict[str, list[float]]:
    data = datasets.open(folder)
    images = load_prepared([s.image for s in data.samples], packaged_lite0())
    before = np.array([focus_score(image) for image in images])
    after = np.array([focus_score(unsharpen(image)) for image in images])
    labels = np.array([sample.label for sample in data.samples])
    rows = {}
    for name in data.labels.names:
        own = labels == name
        figures = (np.median(before[own]), np.median(after[own]), (before[own] < 0.5).mean())
        rows[name] = [round(float(v), 3) for v in figures]
        print(f"{name}: {rows[name]}")
    return rows


def main() -> None:
    result = {"drawn": blurred_rows(0), "drawn_with_noise_3": blurred_rows(3)}
    for folder in sys.argv[1:]:
        result[folder.rstrip("/").rsplit("/", 1)[-1]] = class_rows(folder)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
