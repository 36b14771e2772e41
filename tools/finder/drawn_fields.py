"""Drawn fields with touching cells and their exact boxes, for teaching and for holding back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cellkin.drawing.camera import decoded, jpeg, subject_style
from cellkin.drawing.canvas import Canvas
from cellkin.drawing.scene import draw_field

KINDS = ("lymphocyte", "neutrophil", "monocyte", "eosinophil", "basophil", "ig", "erythroblast")


def drawn_field(seed, shape, scale, cells, touching=0.7, blasts=0.7):
    """RGB, the placed cells and the diameter of red cells, of a field at pixels per micrometre."""
    rng = np.random.default_rng([77, *np.atleast_1d(seed)])
    style = subject_style(rng).in_field(rng, 1.0)
    style = replace(style, crowding=float(rng.uniform(0.1, 0.55)))
    kinds = [
        "lymphoblast" if rng.random() < blasts else str(rng.choice(KINDS)) for _ in range(cells)
    ]
    rgb, _, placed = draw_field(kinds, rng, style, Canvas(shape, scale), touching)
    return decoded(jpeg(rgb, style.quality)), placed, 2 * style.red_radius * scale
