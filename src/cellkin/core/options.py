"""Options of long works: frozen records, whose unknown names are a user's mistake."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any, Self

from cellkin.core.errors import CellkinError, RecipeError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Options:
    """What options of all kinds share.

    Raises:
        RecipeError: an unknown name.
    """

    def __new__(cls, **given: Any) -> Self:
        refuse_unknown(given, [f.name for f in fields(cls)], "option", where=cls.__name__)
        return super().__new__(cls)


def refuse_unknown(
    given: Iterable[str],
    known: Collection[str],
    what: str,
    *,
    where: object,
    kind: type[CellkinError] = RecipeError,
) -> None:
    """Refuse the first of the given names that is not known.

    Args:
        what: "option", "key", ... kind: of the error to raise.
    """
    for name in given:
        if name not in known:
            raise kind(
                f"unknown {what} {name!r}",
                where=where,
                mend=did_you_mean(name, known) or f"known: {', '.join(known)}",
            )
