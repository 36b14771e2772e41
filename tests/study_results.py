"""Made-up results of a study, for tests of its numbers and its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cellkin.core.records import LabelSet, Neighbor
from cellkin.study.predictions import Job, Prediction, Results

__all__ = ["BLASTS", "job", "made_up", "prediction"]

BLASTS = LabelSet(
    ("nothing", "normal", "blast (1)", "blast (2)"),
    {
        "nothing": "no cell",
        "normal": "other cell",
        "blast (1)": "lymphoblast",
        "blast (2)": "lymphoblast",
    },
    {"blast (1)": "lymphoblast (1)", "blast (2)": "lymphoblast (2)"},
)


def job(method: str = "cellkin", **changes: object) -> Job:
    """A job; its key follows from what it is."""
    values: dict[str, object] = {
        "method": method,
        "dataset": "smears",
        "injection": "nothing+split",
        "backbone": "resnet18",
        "init": "scratch",
        "recipe": "quick",
        "unit": "image",
        "seed": 0,
        "fold": 1,
        "folds": 3,
        "tested_on": "",
    } | changes
    return Job(key="/".join(map(str, values.values())), **values)  # type: ignore[arg-type]


CLASSES = {"classes": BLASTS.to_json()}
"""What a fold keeps of its classes."""


def prediction(name: str, truth: str, label: str, labels: LabelSet = BLASTS, **more: object):
    """One decided cell with the fields that follow from its classes."""
    return Prediction(
        id=name,
        truth=truth,
        label=label,
        truth_clinical=labels.clinical[truth],
        clinical=labels.clinical[label],
        **more,  # type: ignore[arg-type]
    )


def made_up(
    path: Path, *, subjects: int = 12, cells: int = 6, folds: int = 3, seed: int = 0
) -> Results:
    """Three methods, by image and by subject; "cellkin" is right more often, most by image."""
    results = Results.open(path)
    results.state("title", "Made-up study")
    results.state("command", "cellkin evaluate made-up.toml --out study")
    skill = {
        ("cellkin", "image"): 0.97,
        ("cellkin", "subject"): 0.85,
        ("softmax head", "image"): 0.95,
        ("softmax head", "subject"): 0.86,
        ("colour histogram", "image"): 0.7,
        ("colour histogram", "subject"): 0.55,
    }
    plan = [
        job(method, unit=unit, fold=fold, folds=folds)
        for method, unit in skill
        for fold in range(1, folds + 1)
    ]
    results.plan(plan)
    for one in plan:
        chance = skill[one.method, one.unit]
        results.add(one, _decided(one, (subjects, cells), chance, seed), 1.5, CLASSES)
    return results


def _decided(one: Job, size: tuple[int, int], skill: float, seed: int) -> list[Prediction]:
    subjects, cells = size
    generator = np.random.default_rng([seed, len(one.method), len(one.unit), one.fold])
    found = []
    for person in range(subjects):
        for number in range(cells):
            place = number if one.unit == "image" else person
            if place % one.folds + 1 == one.fold:
                name = BLASTS.names[number % 4]
                right = generator.random() < skill
                called = name if right else BLASTS.names[(number + 1 + person % 3) % 4]
                found.append(_one(person, number, (name, called), generator))
    return found


def _one(
    person: int, number: int, classes: tuple[str, str], generator: np.random.Generator
) -> Prediction:
    truth, called = classes
    votes = {called: 4, truth: 1} if called != truth else {called: 5}
    blasts = sum(n for name, n in votes.items() if BLASTS.is_positive(name))
    kin = [
        Neighbor(
            f"reference-{called}-{rank}",
            called,
            0.2 * rank + float(generator.random()) / 10,
            rank,
            "r",
        )
        for rank in range(1, 6)
    ]
    xy = generator.normal(size=2) + 6 * np.array(divmod(BLASTS.index(truth), 2))
    return prediction(
        f"{truth}/{person:02d}_{number}.png",
        truth,
        called,
        score=blasts / 5,
        subject=f"person {person:02d}",
        votes=votes,
        neighbors=tuple(kin),
        map_xy=(float(xy[0]), float(xy[1])),
    )
