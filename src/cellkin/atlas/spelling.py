"""The names of people, slides and fields as an atlas spells them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cellkin.core.errors import DecisionError
from cellkin.core.names import is_unknown, likeness, plain, spelled


def spelling(
    given: str | None, unit: str, known: Collection[str], alike: Mapping[str, str], *, where: object
) -> str | None:
    """An owner as the atlas spells it; its plain name where the atlas has no cell of it.

    Args:
        known: the owners that it has cells of. alike: their likeness -> name.

    Raises:
        DecisionError: see `Atlas.named`.
    """
    if given is None or given in known:
        return given
    name = plain(given)
    if is_unknown(name):
        raise DecisionError(
            f"{given!r} names nobody",
            where=unit,
            mend=f"leave the {unit} away where it is not known",
        )
    same = alike.get(likeness(name), name)
    if name not in known and same != name:
        raise DecisionError(
            f"{unit} {spelled(given)} is not in this atlas, {spelled(same)} is",
            where=where,
            mend=f"did you mean {same!r}? Another {unit} needs a name that differs in more",
        )
    return name
