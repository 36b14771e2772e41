"""The learning rate of every step, as a recipe says."""

from __future__ import annotations

import math

from cellkin.learning.recipes import Recipe

RISE = 0.03  # share of all steps in which the cosine schedule rises


def learning_rate(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """Of step `step` (from 0) in epoch `epoch` (from 1) with `steps` steps each.

    "step": lr x lr_factor for every `lr_every` epochs that are over. "cosine": a linear rise over
    the first 3 % of all steps, then half a cosine down to zero.
    """
    if recipe.schedule == "step":
        return float(recipe.lr * recipe.lr_factor ** ((epoch - 1) // recipe.lr_every))
    total = recipe.epochs * steps
    done = (epoch - 1) * steps + step
    rise = min(1.0, (done + 1) / max(1.0, RISE * total))
    return float(recipe.lr * rise * 0.5 * (1.0 + math.cos(math.pi * done / total)))
