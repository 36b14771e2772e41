"""What was measured, in plain words: each sentence says what it rests on, and names failures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cellkin.core.numbers import number, percent, percent_range
from cellkin.evidence.probing import METHODS
from cellkin.evidence.randomisation import LIMIT

Data = Mapping[str, Any]
REFUSED = 0.95  # share of outside pictures that should be answered "unlike this atlas"


def warnings(randomisation: Data) -> dict[str, str]:
    """Method -> what every map of it must say, where it cannot be told from random networks."""
    return {
        name: "Not to be trusted on this atlas: networks that have learned nothing draw nearly the "
        f"same map (rank correlation {_mean(found['similarity'])})."
        for name, found in randomisation["methods"].items()
        if found["told_apart"] is False
    }


def verdicts(result: Data) -> list[dict[str, str]]:
    """Sentences with a `name`, a `state` ("good", "warn" or "bad") and `text`, gravest first."""
    found = [
        *_completeness(result["completeness"]),
        *_randomisation(result["randomisation"]),
        *_deletion(result["deletion"]),
        *_attention(result["attention"]),
        *_stability(result["stability"]),
        *_sets(result["sets"]),
        *_calibration(result["calibration"]),
        *_outside(result["outside"]),
    ]
    order = {"bad": 0, "warn": 1, "good": 2}
    return sorted(found, key=lambda verdict: order[verdict["state"]])


def _verdict(name: str, state: str, text: str) -> dict[str, str]:
    return {"name": name, "state": state, "text": text}


def _by_method(found: Data) -> list[tuple[str, Any]]:
    """In the order of `METHODS`, whatever the order of the data."""
    return [(name, found[name]) for name in METHODS if name in found]


def _completeness(found: Data) -> Iterator[dict[str, str]]:
    methods = found["methods"].values()
    largest, maps = max(m["largest"] for m in methods), sum(m["maps"] for m in methods)
    state, gap = "good", number(largest, 2)
    text = f"All {maps} maps add up to what they explain: largest error {gap}."
    if not found["exact"]:
        state, text = "warn", f"These maps are approximate: the largest gap of {maps} is {gap}."
    elif refused := sum(m["refused"] for m in methods):
        state = "bad"
        text = f"{refused} of {maps} maps do not add up to what they explain: a defect."
    yield _verdict("completeness", state, text)


def _randomisation(found: Data) -> Iterator[dict[str, str]]:
    for name, own in _by_method(found["methods"]):
        title, told = METHODS[name], own["told_apart"]
        if told is None:
            text = f"{title}: not compared with random networks: {own['note']}."
            yield _verdict("randomisation", "warn", text)
            continue
        what = "can be told" if told else "cannot be told"
        text = (
            f"{title} {what} from {own['networks']} random networks: rank correlation "
            f"{_mean(own['similarity'])}; below {LIMIT} as a whole would tell it."
        )
        yield _verdict("randomisation", "good" if told else "bad", text)


def _deletion(found: Data) -> Iterator[dict[str, str]]:
    for name, own in _by_method(found):
        for test in ("deletion", "insertion"):
            gain = own[test]
            head = f"{METHODS[name]}: {test}"
            state, what = "warn", "against"
            if gain["low"] is not None:
                state, what = ("good", "beats") if gain["low"] > 0 else ("bad", "does not beat")
            yield _verdict(test, state, f"{head} {what} random order: difference {_mean(gain)}.")


def _attention(found: Data | None) -> Iterator[dict[str, str]]:
    if found is None:
        text = "Where the maps point was not measured: no mask is there and no outline was found."
        yield _verdict("attention", "warn", text)
        return
    rows = found["regions"]["nucleus and cytoplasm"]
    uniform = rows["uniform"]["share"]["mean"]
    told = [
        f"{METHODS[name]} {percent(own['share']['mean'])}"
        for name, own in _by_method(rows)
        if own is not None
    ]
    text = (
        f"Of what is positive in a map, on nucleus and cytoplasm: {'; '.join(told)}; of a uniform "
        f"map {percent(uniform)}."
    )
    least = min(
        (own["over_uniform"]["mean"] for n, own in rows.items() if n != "uniform" and own),
        default=0.0,
    )
    yield _verdict("attention", "good" if least > 0 else "warn", text)


def _stability(found: Data) -> Iterator[dict[str, str]]:
    for own in found.values():
        label = own["label"]
        text = (
            f"Pictures {own['title']}: {label['count']} of {label['n']} calls stay, "
            f"{percent(own['neighbors']['mean'])} of the kin."
        )
        if own["title"].startswith("noise"):
            text = text.replace("Pictures noise", "Pictures with noise", 1)
        yield _verdict("stability", "good" if label["share"] >= 0.95 else "warn", text)


def _sets(found: Data) -> Iterator[dict[str, str]]:
    if found["absent"]:
        yield _verdict("sets", "warn", f"Prediction sets were not measured: {found['absent']}.")
        return
    covered = found["together"]["covered"]
    promised = found["promised"]
    kept = covered["high"] >= promised
    text = (
        f"{covered['count']} of {covered['n']} prediction sets ({percent(covered['share'])}) hold "
        f"the true class; {percent(promised, None)} by {found['unit']} were promised; "
        f"{number(found['together']['size'], 3)} classes in a set."
    )
    yield _verdict("sets", "good" if kept else "bad", text)


def _calibration(found: Data) -> Iterator[dict[str, str]]:
    for name, title in (("vote", "Agreement of the kin"), ("head", "The class head")):
        own = found[name]
        if own is None:
            text = f"{title}: not measured, it knows other classes."
            yield _verdict("calibration", "warn", text)
            continue
        text = (
            f"{title}: calibration error (ECE) {number(own['ece'], 2)}, Brier score "
            f"{number(own['brier'], 2)}; mean confidence {percent(own['confidence'])}, right "
            f"{percent(own['accuracy'])}."
        )
        yield _verdict("calibration", "good" if own["ece"] <= 0.05 else "warn", text)


def _outside(found: Data) -> Iterator[dict[str, str]]:
    alarms, allowed = found["unlike"], found["allowed"]
    text = (
        f"False alarms: {alarms['count']} of {alarms['n']} held-out cells "
        f"({_share(alarms)}) are called unlike this atlas; {percent(allowed, None)} are allowed."
    )
    yield _verdict("outside", "good" if alarms["share"] <= allowed else "warn", text)
    for name, own in found["kinds"].items():
        if not own["n"]:
            text = f"{name}: none of them can be read as a colour picture."
            yield _verdict("outside", "warn", text)
            continue
        unlike = own["unlike"]
        text = (
            f"{name}: {unlike['count']} of {unlike['n']} ({_share(unlike)}) are called unlike this "
            "atlas."
        )
        yield _verdict("outside", "good" if unlike["share"] >= REFUSED else "bad", text)
    if not found["kinds"]:
        yield _verdict("outside", "warn", "No picture from outside was given.")


def _share(found: Data) -> str:
    """ "12.0 %; 95 % interval 8.1 to 17.3 %"."""
    ends = percent_range(found["low"], found["high"])
    return f"{percent(found['share'])}; 95 % interval {ends}"


def _mean(found: Data) -> str:
    """ "0.12, 95 % interval 0.10 to 0.14 (cells)", or why there is no interval."""
    mean = number(found["mean"], 2)
    if found["low"] is None:
        return f"{mean}; {found['note']}"
    low, high = number(found["low"], 2), number(found["high"], 2)
    return f"{mean}, 95 % interval {low} to {high} ({found['units']} {found['unit']}s)"
