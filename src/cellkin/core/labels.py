"""The classes of cells and what they mean to a clinician."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from cellkin.core.arrays import Array
from cellkin.core.errors import LabelError, did_you_mean
from cellkin.core.plain import Plain

LYMPHOBLAST = "lymphoblast"
OTHER_CELL = "other cell"
NO_CELL = "no cell"
CLINICAL_CLASSES = (LYMPHOBLAST, OTHER_CELL, NO_CELL)
GROUP = re.compile(r"\s*\(\d+\)$")  # what tells imaging groups of one class apart in a title

NOTICE = (
    "For research use only: never a diagnosis without a pathologist. "
    "Morphology alone establishes neither lineage nor malignancy."
)


def frozen(array: Array) -> Array:
    """A read-only view of an array (its owner, if somebody else holds it, stays as it is)."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class LabelSet(Plain):
    """The classes of a data set and what each means to a clinician.

    Attributes:
        names: fine classes in their fixed order (class index = position).
        clinical: fine class -> one of `CLINICAL_CLASSES`; every name is mapped.
        titles: fine class -> the words people read (C-NMC's `hem` is a "normal B-lymphoid
            precursor"); a class without a title is shown by its name.

    Raises:
        LabelError: a name is not mapped, or mapped to something that is no clinical class.
    """

    names: tuple[str, ...]
    clinical: Mapping[str, str]
    titles: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.names:
            meaning = self.clinical.get(name)
            if meaning not in CLINICAL_CLASSES:
                raise LabelError(
                    f"class {name!r} has no clinical meaning",
                    where=f"classes {', '.join(self.names)}",
                    mend=f"declare it as one of: {', '.join(CLINICAL_CLASSES)} "
                    f"(a line '{name},other cell' in classes.csv, or --clinical "
                    f"'{name}=other cell')",
                )
        object.__setattr__(self, "clinical", MappingProxyType(dict(self.clinical)))
        object.__setattr__(self, "titles", MappingProxyType(dict(self.titles)))

    @property
    def positive(self) -> str | None:
        """`"lymphoblast"` where a class means it, else None: then there is no clinical verdict."""
        return LYMPHOBLAST if LYMPHOBLAST in self.clinical.values() else None

    def index(self, name: str) -> int:
        """Position of a class name.

        Raises:
            LabelError: no class of this name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise LabelError(
                f"unknown class {name!r}",
                where=f"classes {', '.join(self.names)}",
                mend=did_you_mean(name, self.names) or "use one of the classes named here",
            ) from None

    def title(self, name: str) -> str:
        """The words people read for a class."""
        return self.titles.get(name, name)

    def group_title(self, name: str) -> str:
        """The title without an imaging group: to a reader all lymphoblasts are one class
        (section 3.2 of the paper).
        """
        return GROUP.sub("", self.title(name)) if self.is_positive(name) else self.title(name)

    def is_positive(self, name: str) -> bool:
        """Whether a fine class means lymphoblast."""
        return self.clinical[name] == LYMPHOBLAST

    def side(self, name: str) -> object:
        """What a class says to the deciding question: lymphoblast or not, where a class means it,
        else the class itself.
        """
        return name if self.positive is None else self.is_positive(name)

    def right(self, call: str, truth: str) -> bool:
        """Whether a call is right to a reader, to whom imaging groups of lymphoblasts are one
        class (section 3.2).
        """
        return self.exact(call, truth) or (self.is_positive(call) and self.is_positive(truth))

    @staticmethod
    def exact(call: str, truth: str) -> bool:
        """Whether a call is the very class of the cell, its imaging group too: the diagonal of a
        confusion matrix (Table 6).
        """
        return call == truth

    def right_side(self, call: str, truth: str) -> bool:
        """Whether a call is right about "lymphoblast or not", as Table 5 counts; all calls are
        where no class means lymphoblast.
        """
        return self.is_positive(call) == self.is_positive(truth)

    def only(self, names: Collection[str]) -> LabelSet:
        """Those of the classes that are among `names`, in the order that they have here."""
        kept = tuple(name for name in self.names if name in names)
        titles = {name: title for name, title in self.titles.items() if name in kept}
        return LabelSet(kept, {name: self.clinical[name] for name in kept}, titles)

    def joined(self, other: LabelSet) -> LabelSet:
        """These classes, then those that `other` adds; where both know a class, it means what it
        means here.
        """
        names = tuple(dict.fromkeys((*self.names, *other.names)))
        clinical, titles = {**other.clinical, **self.clinical}, {**other.titles, **self.titles}
        return LabelSet(names, clinical, titles)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabelSet:
        return cls(tuple(data["names"]), data["clinical"], data.get("titles", {}))

    def __reduce__(self) -> tuple[Any, ...]:  # mapping proxies do not travel between processes
        return (LabelSet, (self.names, dict(self.clinical), dict(self.titles)))
