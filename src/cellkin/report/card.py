"""The model card of an encoder or atlas, in Markdown; facts come in, nothing is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellkin.core.numbers import number, percent
from cellkin.core.records import NOTICE, LabelSet
from cellkin.report.facts import interval_words, test_rows
from cellkin.report.places import place_limits, place_rows

Facts = Mapping[str, Any]

USES = (
    "Research and teaching: to compare a white blood cell with labelled cells that a network finds "
    "alike, and to look at the reasons.",
    "Images like those it was made from: the same specimen, stain, magnification and crop.",
)
NOT_USES = (
    "No diagnosis, no screening and no decision on treatment.",
    "Neither lineage nor malignancy: morphology alone establishes none of them.",
)


def model_card(card: Facts) -> str:
    """What a model is, what it was made from, how good it is, and what it is not for.

    Args:
        card: plain data: `kind` ("encoder" or "atlas"), `data`, `split`, `network`, `recipe`,
            `training`, `provenance`; of an atlas also `test`, `vote`, `calibration`, `labels`; of a
            pretrained encoder `levels`.

    Returns:
        Markdown that ends with the research-use notice.
    """
    data = card["data"]
    title = f"# Model card: {card['kind']} of {data['dataset']}"
    parts = [
        (title, _head(card)),
        ("## Intended use", _bullets(USES)),
        ("## Not for", _bullets(NOT_USES)),
        ("## Data", _data(card)),
        ("## Numbers", _numbers(card)),
        ("## Limits", _bullets(_limits(card))),
        ("## Network and recipe", _network(card)),
        ("## Provenance", _table(_filled(card["provenance"]))),
        ("## Notice", [NOTICE]),
    ]
    lines: list[str] = []
    for heading, body in parts:
        lines += [heading, "", *body, ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _head(card: Facts) -> list[str]:
    network, recipe = card["network"], card["provenance"]["recipe"]
    what = f"{network['backbone']}, {network['width']} features, recipe `{recipe}`"
    if card["data"]["drawn"]:
        return [f"{what}.", "", "**Made from drawn cells: synthetic images, no real blood.**"]
    return [f"{what}."]


def _data(card: Facts) -> list[str]:
    data = card["data"]
    rows = [
        ("Data set", str(data["dataset"])),
        ("Layout", str(data.get("layout") or "not stated")),
        ("Specimen", str(data.get("specimen") or "not stated")),
        ("Stain", str(data.get("stain") or "not stated")),
        ("Citation", str(data.get("citation") or "not stated")),
        ("Licence", str(data.get("licence") or "not stated")),
        ("Parts", _parts(card["split"])),
    ]
    if classes := data.get("classes"):
        rows.append(("Reference cells", ", ".join(f"{n} {title}" for title, n in classes.items())))
    return _table(rows)


def _parts(split: Facts) -> str:
    counts = [f"{split[k]} {k}" for k in ("train", "val", "calibration", "test") if split.get(k)]
    told = f"{', '.join(counts)}; by {split['unit']}, seed {split['seed']}"
    return f"{told}; {split['note']}" if split.get("note") else told


def _numbers(card: Facts) -> list[str]:
    if levels := card.get("levels"):
        return _level_table(levels)
    test, labels = card.get("test"), LabelSet.from_json(card["labels"])
    places = place_rows(card, {name: labels.title(name) for name in labels.names})
    if not test:
        untold = "Not measured: there is no test part."
        return [untold, *(["", *_table(places)] if places else [])]
    vote = card["vote"]
    rows = [
        ("Decides by", f"{vote['k']} neighbours, {vote['distance']} distance"),
        *test_rows(test, labels),
        *places,
    ]
    table = ["", "| class | test cells | recall | interval |", "|---|---|---|---|"]
    for name, row in test["per_class"].items():
        recall = "no test cell" if row["recall"] is None else percent(row["recall"])
        interval = interval_words(row["interval"]) if row["interval"] else ""
        table.append(f"| {_cell(labels.title(name))} | {row['n']} | {recall} | {_cell(interval)} |")
    return [*_table(rows), *table]


def _level_table(levels: list[Facts]) -> list[str]:
    lines = [
        "On the validation part, on which the epoch was selected; no interval: the images of one "
        "slide are alike.",
        "",
        "| level | codes | scored | mAP | mAP of guessing | F1 |",
        "|---|---|---|---|---|---|",
    ]
    for i, level in enumerate(levels, 1):
        scores = level["scores"]
        values = [_share(scores[key]) for key in ("map", "frequency", "f1")]
        lines.append(f"| {i} | {level['codes']} | {scores['codes']} | {' | '.join(values)} |")
    return lines


def _share(value: float | None) -> str:
    return "not available" if value is None else percent(value)


def unbeaten_start(training: Facts) -> str:
    """Says that a training was no better than its first weights, untrained; "" where it was."""
    start, end = training.get("start_accuracy"), training.get("validation_accuracy")
    if end is not None and training.get("selected_epoch") == 0:
        return (
            f"The first weights were kept as they came: {percent(end)} of the validation cells "
            "right with them, and no epoch of training was better beyond chance."
        )
    if start is None or end is None or end > start:
        return ""
    return (
        f"Training did not beat its frozen start: {percent(end)} of the validation cells right "
        f"after it, {percent(start)} before. cellkin index builds an atlas without training."
    )


def _limits(card: Facts) -> list[str]:
    data, split = card["data"], card["split"]
    limits = []
    if data["drawn"]:
        limits.append("Its cells are drawn. What it says about a real cell means nothing.")
    if not data.get("specimen") or not data.get("stain"):
        limits.append("The data set does not state its specimen or stain: compare before use.")
    if card.get("knows_lymphoblasts") is False:
        limits.append("It knows no lymphoblasts and cannot exclude one.")
    if split["unit"] == "image":
        limits.append(
            "Its parts were cut by image: cells of one person may be on both sides, and numbers "
            "for new people may be lower."
        )
    if "levels" in card:
        limits.append(
            "It was trained on tissue labels and makes no decision on cells by itself; train on "
            "cells from it, or index cells with it, and measure."
            if len(card["levels"]) > 1
            else "It makes no decision on cells by itself; index cells with it, and measure."
        )
    if absent := card.get("absent_codes"):
        limits.append(f"Codes without a training image: {', '.join(absent)}.")
    if told := unbeaten_start(card.get("training") or {}):
        limits.append(told)
    if not card.get("test") and "levels" not in card:
        limits.append("It was never tested.")
    limits += place_limits(card)
    limits += [str(note) for note in data.get("notes") or ()]
    return limits or ["Other laboratories, stains and cameras were not tested."]


def _first_weights(card: Facts) -> str:
    init = str(card["network"]["init"])
    if init != "haematology" or not str(card["recipe"].get("name")).startswith("paper"):
        return init
    return f"{init}: a departure from the paper, whose networks were pretrained on tissue"


def _view(preprocessor: Facts) -> str:
    kinds = {"white": "in one white", "density": "in one white and one strength of stain"}
    return kinds.get(preprocessor.get("view", "raw"), "colours as they are")


def _network(card: Facts) -> list[str]:
    network, pre = card["network"], card["network"]["preprocessor"]
    rows = [
        (
            "Backbone",
            f"{network['backbone']}, {network['norm']} norm, {network['pooling']} pooling",
        ),
        ("First weights", _first_weights(card)),
        ("Input", f"RGB, {pre['size']} x {pre['size']} pixels, centre crop, {_view(pre)}"),
        ("z-score", f"mean {_triple(pre['mean'])}, deviation {_triple(pre['std'])} of 255"),
        ("Feature space", str(network["space"])),
    ]
    rows += [(f"training, {k.replace('_', ' ')}", _plain(v)) for k, v in
             (card.get("training") or {}).items()]  # fmt: skip
    rows += [(f"recipe, {k.replace('_', ' ')}", _plain(v)) for k, v in card["recipe"].items()]
    return _table(rows)


def _triple(values: list[float]) -> str:
    return ", ".join(number(v, 4) for v in values)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value, 4) if isinstance(value, float) else str(value)


def _filled(provenance: Facts) -> list[tuple[str, str]]:
    return [(key, _plain(value)) for key, value in provenance.items() if value not in ("", None)]


def _table(rows: list[tuple[str, str]]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {_cell(a)} | {_cell(b)} |" for a, b in rows)]


def _cell(text: str) -> str:
    """Text that cannot break a table, whatever a data set calls itself."""
    return " ".join(text.split()).replace("|", "\\|")


def _bullets(lines: list[str] | tuple[str, ...]) -> list[str]:
    return [f"- {' '.join(line.split())}" for line in lines]
