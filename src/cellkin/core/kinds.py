"""What kind of object a class names: is it a lymphoblast, a platelet, ...

A class's clinical meaning (`LabelSet.clinical`) comes first; beyond it, kinds are recognised by the
words people read, so that "ig" of one data set and "immature granulocyte" of another are one kind.
"""

from __future__ import annotations

import re

from cellkin.core.labels import LYMPHOBLAST, NO_CELL, LabelSet

IMMATURE = "immature granulocyte"
ERYTHROBLAST = "erythroblast"
PLATELET = "platelet"
NOTHING = "nothing"
LEUKOCYTE = "leukocyte"

WORDS = (
    (ERYTHROBLAST, re.compile(r"erythroblast|normoblast|nucleated red", re.IGNORECASE)),
    (PLATELET, re.compile(r"platelet|thrombocyte|megakaryocyte", re.IGNORECASE)),
    (
        IMMATURE,
        re.compile(
            r"immature granulocyte|(myelo|promyelo|metamyelo)(cyte|blast)s?\b", re.IGNORECASE
        ),
    ),
)


def kind(name: str, labels: LabelSet) -> str:
    """One of `LYMPHOBLAST`, `NOTHING`, `ERYTHROBLAST`, `PLATELET`, `IMMATURE`, `LEUKOCYTE`.

    Raises:
        LabelError: no class of this name.
    """
    labels.index(name)
    if labels.is_positive(name):
        return LYMPHOBLAST
    if labels.clinical[name] == NO_CELL:
        return NOTHING
    words = f"{name} {labels.title(name)}"
    return next((found for found, pattern in WORDS if pattern.search(words)), LEUKOCYTE)
