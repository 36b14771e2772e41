"""Do the answers keep what they promise? Prediction sets and confidences on held-out cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cellkin.core.records import Decision, LabelSet
from cellkin.core.units import Owners
from cellkin.measures.intervals import mean_of, share_of
from cellkin.measures.reliability import reliability


def set_tables(
    decisions: Sequence[Decision],
    truth: Sequence[str],
    owners: Owners,
    labels: LabelSet,
) -> dict[str, Any]:
    """Coverage and size of the prediction sets, by true class and together.

    Counted are cells of classes that could be judged. By the promise, `promised` of them have
    their class in the set. Where the unit is larger than a cell, `by_unit` is the mean over units
    and classes of the share of covered cells, which is what the promise is about.
    """
    have = [
        (d.prediction_set, t, s)
        for d, t, s in zip(decisions, truth, owners.names, strict=True)
        if d.prediction_set is not None and t in d.prediction_set.p_values
    ]
    absent = sorted({d.set_absent for d in decisions if d.prediction_set is None})
    if not have:
        reason = "; ".join(absent) or "no held-out cell is of a class that could be judged"
        return {"absent": reason, "classes": {}}
    sets = [found for found, _, _ in have]
    rows = {
        name: _row([(f.labels, t) for f, t, _ in have if t == name])
        for name in labels.names
        if any(t == name for _, t, _ in have)
    }
    return {
        "absent": "",
        "promised": sets[0].coverage,
        "unit": sets[0].unit,
        "note": sets[0].note,
        "classes": rows,
        "together": _row([(f.labels, t) for f, t, _ in have]),
        "by_unit": _by_unit([(f.labels, t, s) for f, t, s in have], sets[0].unit),
        "unjudged": {
            name: sum(t == name for t in truth) for name in labels.names if name not in rows
        },
    }


def _row(found: Sequence[tuple[tuple[str, ...], str]]) -> dict[str, Any]:
    return {
        "covered": share_of([t in names for names, t in found]).to_json(),
        "size": float(np.mean([len(names) for names, _ in found])),
        "empty": sum(not names for names, _ in found),
        "several": sum(len(names) > 1 for names, _ in found),
    }


def _by_unit(
    found: Sequence[tuple[tuple[str, ...], str, str | None]], unit: str
) -> dict[str, Any] | None:
    owners = Owners(unit, tuple(name for _, _, name in found))
    if not owners.several:
        return None
    shares: dict[tuple[str, str], list[bool]] = {}
    for names, t, s in found:
        shares.setdefault((str(s), t), []).append(t in names)
    keys = sorted(shares)
    means = [float(np.mean(shares[key])) for key in keys]
    return mean_of(means, Owners(unit, tuple(name for name, _ in keys))).to_json()


def calibration_tables(
    decisions: Sequence[Decision], truth: Sequence[str], labels: LabelSet
) -> dict[str, Any]:
    """Reliability of the vote's agreement and of the class head's probability.

    The agreement is about the deciding vote: in an atlas that knows lymphoblasts it is right where
    the call is on the right side of "lymphoblast or not", otherwise where the class is right. The
    head is right where its class is.
    """
    judge = labels.exact if labels.positive is None else labels.right_side
    right = [judge(d.label, t) for d, t in zip(decisions, truth, strict=True)]
    heads = [(d.head, t) for d, t in zip(decisions, truth, strict=True) if d.head is not None]
    return {
        "question": "lymphoblast or not" if labels.positive is not None else "class",
        "vote": reliability([d.agreement for d in decisions], right).to_json(),
        "head": reliability(
            [min(1.0, head.probability) for head, _ in heads],
            [labels.exact(head.label, t) for head, t in heads],
        ).to_json()
        if heads
        else None,
    }
