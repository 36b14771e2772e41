"""Optimisers by recipe, and their state as plain named tensors for checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cellkin.learning.recipes import Recipe


def build(recipe: Recipe, learned: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that learn; all of a step in one pass over the weights."""
    parameters = list(learned)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
    return torch.optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def tensors(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Parameter name -> the optimiser's tensors for it, by key."""
    names: dict[Any, str] = {p: n for n, p in network.named_parameters()}
    return {
        names[p]: {k: v for k, v in values.items() if isinstance(v, Tensor)}
        for p, values in optimizer.state.items()
    }


def restore(
    optimizer: torch.optim.Optimizer,
    network: nn.Module,
    stored: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Put back what `tensors` gave, laid out in memory as the parameters are."""
    parameters = dict(network.named_parameters())
    for name, values in stored.items():
        p = parameters[name]
        optimizer.state[p] = {k: _like(v, p) for k, v in values.items()}


def _like(value: Tensor, parameter: nn.Parameter) -> Tensor:
    if value.shape != parameter.shape:  # a count of steps, no moment
        return value.to(parameter.device)
    return torch.empty_like(parameter).copy_(value).detach()
