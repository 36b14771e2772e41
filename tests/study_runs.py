"""A small experiment on drawn cells that several test files evaluate."""

from __future__ import annotations

from pathlib import Path

from cellkin.study.experiment_file import Experiment, load_experiment

TINY = """
title = "tiny"
folds = 3
units = ["subject"]
maps = {maps}
recipes = ["demo"]
backbones = ["test_resnet"]
inits = ["scratch"]
methods = ["cellkin", "softmax head", "colour histogram + neighbours"]
{lists}
[changes]
size = 32
epochs = 2
warmup_epochs = 0
frozen_stages = -1
frozen_batch_norm = false
validate_from = 1
{changes}
[data.smears]
drawn = {{ cells = 60, subjects = 8, size = 48, seed = 3 }}
merge = {{ lymphoblast = ["lymphoblast (1)", "lymphoblast (2)"] }}
nothing = "nothing"
{more}
"""


def tiny(folder: Path, *, maps: bool = False, **lines: str) -> Experiment:
    """The experiment, with `lists`, `changes` and `more` lines added."""
    path = folder / "tiny.toml"
    told = {"lists": "", "changes": "", "more": "", **lines}
    path.write_text(TINY.format(maps=str(maps).lower(), **told))
    return load_experiment(path)
