"""Which cells a reviewer must open singly, why, and in which order to look at them.

Pure functions over what a decision says. A held cell cannot be confirmed together with others.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cellkin.core.kinds import ERYTHROBLAST, IMMATURE, NOTHING, kind
from cellkin.core.records import LYMPHOBLAST, Decision, LabelSet
from cellkin.core.sureness import FAR

_SAID = {
    "lymphoblast proposed": ("a lymphoblast is proposed", "lymphoblast?"),
    "lymphoblast among neighbours": (
        "a lymphoblast is among its closest kin",
        "lymphoblast among its kin",
    ),
    "lymphoblast in set": ("a lymphoblast is in its prediction set", "lymphoblast not ruled out"),
    "failed quality": ("the picture failed the quality gate", "poor picture"),
    "nothing proposed": ("no cell is seen in it", "no cell?"),
    "immature granulocyte proposed": (
        "an immature granulocyte is proposed",
        "immature granulocyte?",
    ),
    "erythroblast proposed": ("an erythroblast is proposed", "erythroblast?"),
    "no class fits": ("no class of the atlas is like it", "unlike every class"),
    "set disagrees": (
        "the prediction set does not hold the class of the vote alone",
        "set disagrees",
    ),
    "head disagrees": ("the class head says another class than the vote", "head disagrees"),
    "tied": ("the vote was tied", "tied vote"),
    "far": ("it lies far from its kin", "far from its kin"),
    "distance not judged": (
        "how far it lies cannot be judged: too few held-out cells",
        "distance not judged",
    ),
}
REASONS: Mapping[str, str] = MappingProxyType({key: words for key, (words, _) in _SAID.items()})
"""Why a cell is held, most worrying first, with the words people read."""

TILES: Mapping[str, str] = MappingProxyType({key: few for key, (_, few) in _SAID.items()})
"""The same in the few words that fit under a small picture."""


MISFITS = frozenset({"failed quality", "no class fits"})
"""Reasons for which a cell does not fit its atlas, see `cellkin.core.sureness`."""


def held_reasons(decision: Decision, gate: Mapping[str, Any], labels: LabelSet) -> tuple[str, ...]:
    """Why a cell must be opened singly, keys of `REASONS` in their order; empty: it need not be.

    Args:
        gate: `{"reasons": [what the quality gate found]}`, or `{}` where nothing was asked.
        labels: the classes of the atlas that decided.

    Raises:
        LabelError: the decision names a class that the atlas does not have.
    """
    proposed = kind(decision.label, labels)
    in_set = decision.prediction_set.labels if decision.prediction_set else ()
    percentile, why, head = decision.distance_percentile, set(decision.reasons), decision.head
    holds = {
        "lymphoblast proposed": LYMPHOBLAST in (proposed, decision.clinical),
        "lymphoblast among neighbours": any(
            labels.is_positive(kin.label) for kin in decision.neighbors
        ),
        "lymphoblast in set": any(labels.is_positive(name) for name in in_set),
        "failed quality": bool(gate.get("reasons") or decision.quality or "quality" in why),
        "nothing proposed": proposed == NOTHING,
        "immature granulocyte proposed": proposed == IMMATURE,
        "erythroblast proposed": proposed == ERYTHROBLAST,
        "no class fits": bool(why & {"unlike", "unknown"}),
        "set disagrees": bool(why & {"ambiguous", "set"}),
        "head disagrees": head is not None and head.label != decision.label,
        "tied": decision.tie is not None or decision.state == "tied",
        "far": percentile is not None and percentile >= FAR,
        "distance not judged": percentile is None,
    }
    return tuple(name for name in REASONS if holds[name])


def worry(decision: Decision, reasons: tuple[str, ...]) -> float:
    """How early a cell should be looked at, larger first.

    The whole part is that of the gravest reason (0 where there is none), so that no number of small
    doubts overtakes a graver one; the fraction, in [0, 1), grows with the number of other reasons,
    the share of the kin that disagree, and the distance.
    """
    order = list(REASONS)
    grave = max((len(order) - order.index(reason) for reason in reasons), default=0)
    percentile = decision.distance_percentile
    doubt = (
        0.4 * min(len(reasons), 8) / 8
        + 0.4 * (1.0 - decision.agreement)
        + 0.19 * (1.0 if percentile is None else percentile / 100)
    )
    return grave + min(max(doubt, 0.0), 0.99)
