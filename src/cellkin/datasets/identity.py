"""Who is who in a data set: words for "not known" are no persons, look-alikes are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cellkin.core.errors import LabelError
from cellkin.core.names import is_unknown, lookalikes, plain, spelled
from cellkin.core.records import Dataset, Sample
from cellkin.datasets.listing import shown

FIELDS: Mapping[str, str] = {
    "subject": "subject",
    "group": "slide or field",
    "place": "place",
    "fold": "fold",
}
MEND = (
    "spell each in one way; names that differ only in case, white space, dashes, leading zeros, "
    "'.0' or letters that are drawn alike are not told apart"
)


def identified(
    dataset: Dataset, *, where: object = None, lines: Mapping[str, int] | None = None
) -> Dataset:
    """The data set with plain names of subjects, slides, fields, places, folds (see `core.names`).

    A word for "not known" ("nan", "N/A", "?") becomes None as an empty cell does, and a note says
    so: the split then treats these images as it treats those without a name.

    Args:
        where: for errors, by default the root. lines: image -> line of the table there.

    Raises:
        LabelError: two names look alike.
    """
    samples: list[Sample] = []
    words: dict[str, list[str]] = {}
    for sample in dataset:
        changes: dict[str, Any] = {}
        for field in FIELDS:
            given = getattr(sample, field)
            if given is None:
                continue
            changes[field] = None if is_unknown(given) else plain(given)
            if changes[field] is None and plain(given):
                words.setdefault(field, []).append(plain(given))
        samples.append(replace(sample, **changes) if changes else sample)
    refuse_strange_names(samples, where=where or dataset.root, lines=lines)
    return replace(
        dataset, samples=tuple(samples), notes=(*dataset.notes, *_unknown_notes(words, dataset))
    )


def _unknown_notes(words: Mapping[str, Sequence[str]], dataset: Dataset) -> list[str]:
    return [
        f"the {FIELDS[field]} of {len(found)} of {len(dataset)} images is taken as not known: "
        + shown([repr(word) for word in sorted(set(found))])
        for field, found in words.items()
    ]


def refuse_strange_names(
    samples: Sequence[Sample], *, where: object, lines: Mapping[str, int] | None = None
) -> None:
    """Raise where two different names of subjects, of slides or fields, of places, or of folds look
    alike, or one is a word for "not known".

    Raises:
        LabelError: there are such names; both spellings are named, and where each is first.
    """
    for field, kind in FIELDS.items():
        first: dict[str, str] = {}
        for sample in sorted(samples, key=lambda s: (lines or {}).get(s.id, 0)):
            if (name := getattr(sample, field)) is not None:
                first.setdefault(name, sample.id)
        if nobody := [name for name in first if is_unknown(name)]:
            raise LabelError(
                f"{nobody[0]!r} names no {kind}",
                where=f"{where}: {first[nobody[0]]}",
                mend=f"leave the {field} away (None) where it is not known",
            )
        if not (alike := lookalikes(first)):
            continue
        places = [
            f"{spelled(name)} " + (f"in line {lines[i]}" if lines else f"of {i}")
            for name, i in ((name, first[name]) for name in alike[0])
        ]
        raise LabelError(
            f"one {kind} in two spellings"
            + (f", {len(alike)} times: " if len(alike) > 1 else ": ")
            + shown([" and ".join(map(spelled, names)) for names in alike]),
            where=f"{where}: {', '.join(places)}",
            mend=MEND,
        )
