"""The hard case: an atlas built without one class is given that class, for each class.

For every class of a data set an atlas is trained without it, by the very split that all classes
share, and then shown all cells of the class it has never heard of, beside its own test cells. Told
are, at a false alarm rate of what the prediction sets allow (5 %), how many of the strange cells
are called "unlike this atlas", how many are refused for any reason (and how many of the atlas's own
kind are), and the AUROC of their oddness
in the feature space, of colours and textures, and of both. The limits come from the atlas's own
calibration cells. Beside it: how well unknown kinds are told by the p-values of the atlas's own
space, of the frozen space, and of both (the smaller, twice: Bonferroni), with the shares of strange
and of own cells that each refuses. The frozen space is that of ImageNet: it has seen no class.

    python benchmarks/unknown_class.py ~/PBC --out unknown
    python benchmarks/unknown_class.py ~/PBC --out unknown --class platelet --class ig
    python benchmarks/unknown_class.py ~/PBC --out unknown --set epochs=2 --set size=96

Stopped and called again with the same words, it goes on: finished classes are read from
OUT/CLASS.json, and a training that was cut off goes on where it was. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cellkin import datasets
from cellkin.atlas.atlas import MANIFEST
from cellkin.core.artifacts import digest, read_json, write_json
from cellkin.core.records import Dataset, Decision, Sample, Split
from cellkin.core.units import SUBJECT, Owners
from cellkin.datasets.parts import splits
from cellkin.imaging.loading import load_prepared
from cellkin.learning.memory import keep_freed_memory
from cellkin.learning.recipes import Recipe, load_recipe
from cellkin.measures.ranking import auroc
from cellkin.proving.outside import Answers, answers, outside_row, shares
from cellkin.system import DecisionSupport, TrainOptions, run_folder, train

COVERAGE = 0.95
WAYS = ("own", "frozen", "both")


def without(data: Dataset, name: str) -> Dataset:
    """The data set as if one class did not exist."""
    names = [n for n in data.labels.names if n != name]
    kept = tuple(s for s in data.samples if s.label != name)
    return replace(data, samples=kept, labels=data.labels.only(names))


def split_without(split: Split, data: Dataset) -> Split:
    """The same parts, of the cells that are left."""
    left = {s.id for s in data.samples}
    parts = {n: tuple(i for i in ids if i in left) for n, ids in split.parts().items()}
    return Split(**parts, unit=split.unit, seed=split.seed, note=split.note)


def measured(
    data: Dataset, name: str, split: Split, recipe: Recipe, folder: Path
) -> dict[str, Any]:
    """Train without the class, in `folder`, then ask about it."""
    known = without(data, name)
    own = split_without(split, known)
    if not (folder / MANIFEST).is_file():
        options = TrainOptions(resume=run_folder(folder).is_dir(), progress=progress(name))
        train(known, recipe, seed=split.seed, out=folder, split=own, options=options)
    dss = DecisionSupport.open(folder)
    tested = known.select(own.test)
    strange = [s for s in data.samples if s.label == name]
    inside, outside = (asked(dss, samples) for samples in (tested, strange))
    own_shares = shares(inside.decisions, COVERAGE)
    right = [d.label == s.label for d, s in zip(inside.decisions, tested, strict=True)]
    return {
        **outside_row(dss.atlas, inside, outside, COVERAGE),
        "novelty": {way: told_apart(way, inside, outside) for way in WAYS},
        "false_alarms": own_shares["unlike"]["share"],
        "own_refused": own_shares["refused"]["share"],
        "held_out": len(tested),
        "right": float(np.mean(right)),
    }


def told_apart(way: str, inside: Answers, outside: Answers) -> dict[str, float]:
    """How well one way of judging novelty tells strange cells from the atlas's own."""
    own, strange = ([p_value(way, d) for d in side.decisions] for side in (inside, outside))
    refused = [float(np.mean([p <= 1 - COVERAGE for p in side])) for side in (own, strange)]
    area = auroc([-p for p in own], [-p for p in strange])
    return {"auroc": area, "refused": refused[1], "false_alarms": refused[0]}


def p_value(way: str, decision: Decision) -> float:
    """Of one cell, by the own space, the frozen one, or both; 1 where it is not judged."""
    found = decision.novelty
    own, frozen = (1.0, 1.0) if found is None else (found.own, found.p)
    values = {"own": own, "frozen": frozen}
    known = {name: 1.0 if p is None else p for name, p in values.items()}
    return min(1.0, 2 * min(known.values())) if way == "both" else known[way]


def asked(dss: DecisionSupport, samples: Sequence[Sample]) -> Answers:
    """What the atlas says to cells."""
    return answers(
        dss.atlas,
        load_prepared([s.image for s in samples], dss.atlas.encoder.preprocessor),
        [s.id for s in samples],
        owners=Owners.of(samples, SUBJECT),
        coverage=COVERAGE,
    )


def progress(name: str) -> Any:
    """A line per epoch."""
    said: set[tuple[str, int]] = set()

    def tell(task: str, done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if (task.split(",")[0], tenth) not in said:
            said.add((task.split(",")[0], tenth))
            print(f"{name}: {task} {done}/{total}", flush=True)

    return tell


def chosen_recipe(name: str, fields: Sequence[str]) -> Recipe:
    """A shipped recipe or a file, with `FIELD=VALUE` changed."""
    recipe = load_recipe(name)
    changes = {k.strip(): _value(v) for k, _, v in (field.partition("=") for field in fields)}
    return replace(recipe, **changes)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as text."""
    head = ("class", "cells", "unlike", "refused", "by sets", "by gate", "AUROC feat.",
            "look", "both", "false alarms", "own refused")  # fmt: skip
    lines = ["{:14} {:>6} {:>8} {:>8} {:>8} {:>8} {:>12} {:>6} {:>6} {:>13} {:>12}".format(*head)]
    for name, row in rows.items():
        said = [f"{100 * row[k]['share']:.1f} %"
                for k in ("unlike", "refused", "sets_alone", "gate_alone")]  # fmt: skip
        areas = ["-" if (a := row["auroc"][k]) is None else f"{a:.3f}"
                 for k in ("features", "look", "both")]  # fmt: skip
        alarms, own = (f"{100 * row[k]:.1f} %" for k in ("false_alarms", "own_refused"))
        lines.append(
            f"{name:14} {row['n']:>6} {said[0]:>8} {said[1]:>8} {said[2]:>8} {said[3]:>8} "
            f"{areas[0]:>12} {areas[1]:>6} {areas[2]:>6} {alarms:>13} {own:>12}"
        )
    lines.append("\nnovelty: AUROC, refused (false alarms)")
    for name, row in rows.items():
        lines.append(f"{name:14} " + "   ".join(_novelty(way, row["novelty"][way]) for way in WAYS))
    means = {w: {k: float(np.mean([r["novelty"][w][k] for r in rows.values()]))
                 for k in ("auroc", "refused", "false_alarms")} for w in WAYS}  # fmt: skip
    return "\n".join([*lines, f"{'mean':14} " + "   ".join(_novelty(w, means[w]) for w in WAYS)])


def _novelty(way: str, told: dict[str, float]) -> str:
    refused, alarms = (f"{100 * told[key]:.1f} %" for key in ("refused", "false_alarms"))
    return f"{way} {told['auroc']:.3f}, {refused} ({alarms})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("unknown"))
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", dest="fields")
    parser.add_argument("--class", action="append", default=[], metavar="NAME", dest="classes")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.data is None:
        print("not measured: it trains one atlas per class, so give it the folder of PBC")
        print(json.dumps({"classes": {}}))
        return
    keep_freed_memory()
    data, out = datasets.open(chosen.data), chosen.out.expanduser()
    recipe = chosen_recipe(chosen.recipe, chosen.fields)
    split = splits.single(data, seed=chosen.seed)
    key = digest({"recipe": recipe.id, "split": split.to_json(), "coverage": COVERAGE})
    out.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in chosen.classes or data.labels.names:
        kept = out / f"{name}.json"
        found = read_json(kept) if kept.is_file() else {}
        if found.get("key") != key:
            found = {
                "key": key,
                "row": measured(data, name, split, recipe, out / f"{name}-{key[:8]}"),
            }
            write_json(kept, found)
        rows[name] = found["row"]
        print(table(rows), flush=True)
    print(json.dumps({"dataset": data.name, "recipe": recipe.id, "seed": chosen.seed,
                      "coverage": COVERAGE, "classes": rows}))  # fmt: skip


if __name__ == "__main__":
    main()
