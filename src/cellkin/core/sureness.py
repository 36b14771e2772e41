"""One line first: is a call sure, unsure, or of a cell that does not fit the atlas; by which rule.

The rule (docs/decisions/049) reads what a decision holds and adds no number of its own:

- *does not fit* where the picture failed the quality gate, where its prediction set is empty, or
  where a space that was not trained on the classes finds it of no known kind;
- *unsure* where anything speaks against the call: a tie, a kin of the other side, a prediction set
  that leaves several verdicts or holds another one, a class with too few held-out cells to judge it
  by, a distance beyond that of 95 of 100 held-out cells of the class, the class head, or the class
  that the untrained space finds it nearest to; where the cell's own label voted; and where the
  atlas has too few held-out subjects (slides, cells) to promise anything for a new one, so that
  it has no prediction set: a network can be wrong about nearly all cells of a new person;
- *sure* otherwise. A head or a second space that an atlas does not have speaks neither for nor
  against.
"""

from __future__ import annotations

from dataclasses import dataclass

from cellkin.core.decisions import Decision
from cellkin.core.labels import LabelSet
from cellkin.core.plain import Plain

SURE, UNSURE, MISFIT = "sure", "unsure", "does not fit"
MISFITS = ("quality", "unlike", "unknown")
"""Reasons of a decision for which a cell does not fit the atlas; they come before all others."""

FAR = 95.0
"""Percentile of the distance from which a cell is far from its kin."""

DOUBTS = (
    "tied",
    "dissent",
    "ambiguous",
    "set",
    "head",
    "second space",
    "far",
    "distance not judged",
    "class not judged",
    "itself",
    "no promise",
)
"""Why a call is unsure, most telling first."""


@dataclass(frozen=True)
class Sureness(Plain):
    """What the first line of an answer says.

    Attributes:
        state: `SURE`, `UNSURE` or `MISFIT`. because: names among `MISFITS` and `DOUBTS`, in their
            order; empty where it is sure.
    """

    state: str
    because: tuple[str, ...]


def sureness(decision: Decision, labels: LabelSet) -> Sureness:
    """How sure a call is, by the rule above.

    Raises:
        LabelError: the decision names a class that is not among `labels`.
    """
    misfits = tuple(name for name in MISFITS if name in decision.reasons)
    if misfits:
        return Sureness(MISFIT, misfits)
    doubts = _doubts(decision, labels)
    return Sureness(UNSURE if doubts else SURE, doubts)


def _doubts(decision: Decision, labels: LabelSet) -> tuple[str, ...]:
    call, found, head, other = (
        decision.label,
        decision.prediction_set,
        decision.head,
        decision.novelty,
    )
    percentile = decision.distance_percentile
    holds = {
        "tied": decision.tie is not None,
        "dissent": decision.agreement < 1,
        "ambiguous": "ambiguous" in decision.reasons,
        "set": "set" in decision.reasons,
        "head": head is not None and not _alike(head.label, call, labels),
        "second space": other is not None and not _alike(other.near, call, labels),
        "far": percentile is not None and percentile >= FAR,
        "distance not judged": percentile is None,
        "class not judged": found is not None and call in found.unjudged,
        "itself": bool(decision.twin),
        "no promise": found is None,
    }
    return tuple(name for name in DOUBTS if holds[name])


def _alike(name: str, call: str, labels: LabelSet) -> bool:
    """Whether a class means the same verdict as the call; classes that the atlas does not name
    mean none.
    """
    return name in labels.names and labels.side(name) == labels.side(call)


def most_misfit(unfit: int, cells: int) -> bool:
    """Whether that is said once for all of them: more than half."""
    return 2 * unfit > cells
