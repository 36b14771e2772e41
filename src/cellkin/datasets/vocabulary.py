"""Known class names, their clinical classes, and the words that people read.

A class gets its clinical meaning from, in this order: what the caller declares, a `classes.csv` in
the data set's folder (columns `label,clinical` and, if wanted, `title`), the vocabulary here. A
class that none of them knows is an error: a clinical meaning is never guessed.

"lymphoblast (1)" and "lymphoblast (2)" are two imaging groups of one class (section 3.2 of the
paper: a bimodal feature distribution, from two magnifications), not subtypes of a disease.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cellkin.core.errors import LabelError, did_you_mean
from cellkin.core.names import likeness, lookalikes, spelled
from cellkin.core.records import (
    CLINICAL_CLASSES,
    LYMPHOBLAST,
    NO_CELL,
    OTHER_CELL,
    LabelSet,
    Sample,
)
from cellkin.datasets.csv_rows import raise_faults, read_rows

CLASSES_FILE = "classes.csv"


class Meaning(NamedTuple):
    """What a class means: one of `CLINICAL_CLASSES`, and the words people read for it."""

    clinical: str
    title: str


OTHER_CELLS = (
    "normal", "lymphocyte", "basophil", "eosinophil", "erythroblast", "immature granulocyte",
    "metamyelocyte", "myelocyte", "promyelocyte", "monocyte", "neutrophil", "band neutrophil",
    "segmented neutrophil", "platelet",
)  # fmt: skip
KNOWN: Mapping[str, Meaning] = {
    **{
        name: Meaning(LYMPHOBLAST, name)
        for name in ("lymphoblast", "lymphoblast (1)", "lymphoblast (2)")
    },
    **{name: Meaning(OTHER_CELL, name) for name in OTHER_CELLS},
    "ig": Meaning(OTHER_CELL, "immature granulocyte"),
    **{name: Meaning(NO_CELL, name) for name in ("nothing", "background")},
}


def known_meaning(name: str) -> Meaning | None:
    """The vocabulary's entry for a class name (its plural does as well), or None."""
    key = likeness(name)
    return KNOWN.get(key) or KNOWN.get(key.removesuffix("s"))


def label_set(
    names: Iterable[str], *, root: Path, clinical: Mapping[str, str] | None = None
) -> LabelSet:
    """The classes of a data set with their meaning.

    The order is that of `classes.csv`; classes it does not name follow as no cell, other cell,
    lymphoblast, and by name among themselves (so the order of the paper's Tables 1-4).

    Args:
        names: the classes found in the data.
        root: the data set's folder, where `classes.csv` may lie.
        clinical: class -> clinical class, from the caller.

    Raises:
        LabelError: fewer than two classes; two spellings of one class; classes without a clinical
            meaning (all of them are named); a declaration for a class that is not there, or of
            something that is no clinical class.
    """
    found = sorted(set(names))
    _refuse_single(found, root)
    _refuse_two_spellings(found, root)
    declared = declared_classes(root)
    meanings = {likeness(name): meaning for name, meaning in declared.items()}
    for name, value in (clinical or {}).items():
        key = _class_named(name, found, root)
        title = meanings[key].title if key in meanings else ""
        meanings[key] = Meaning(clinical_class(value, where=f"clinical[{name!r}]"), title)
    chosen = {name: meanings.get(likeness(name)) or known_meaning(name) for name in found}
    _refuse_unknown([name for name, meaning in chosen.items() if meaning is None], root)
    kept = {name: meaning for name, meaning in chosen.items() if meaning is not None}
    return _ordered(kept, [likeness(name) for name in declared])


def fixed_label_set(
    meanings: Mapping[str, Meaning], *, root: Path, clinical: Mapping[str, str] | None = None
) -> LabelSet:
    """The classes of a published data set, whose meaning its publisher has settled.

    Raises:
        LabelError: the caller or `classes.csv` declares a different meaning.
    """
    said = {name: meaning.clinical for name, meaning in declared_classes(root).items()}
    said |= dict(clinical or {})
    for name, value in said.items():
        key = _class_named(name, list(meanings), root)
        if clinical_class(value, where=name) != meanings[key].clinical:
            raise LabelError(
                f"class {key!r} of this published data set means {meanings[key].clinical!r}, "
                f"{value!r} was declared",
                where=root,
                mend="take the declaration away (classes.csv or --clinical)",
            )
    return LabelSet(
        tuple(meanings),
        {name: meaning.clinical for name, meaning in meanings.items()},
        {name: meaning.title for name, meaning in meanings.items()},
    )


def declared_classes(root: Path) -> dict[str, Meaning]:
    """What `classes.csv` in a data set's folder declares; empty where there is none.

    Raises:
        LabelError: the file is damaged, a row is twice there or declares no clinical class.
    """
    path = root / CLASSES_FILE
    if not path.is_file():
        return {}
    table = read_rows(path, required=("label", "clinical"), optional=("title",))
    found: dict[str, Meaning] = {}
    faults: list[str] = []
    for line, row in table.rows:
        value = likeness(row["clinical"])
        if not row["label"]:
            faults.append(f"line {line}: the label is empty")
        elif likeness(row["label"]) in map(likeness, found):
            faults.append(f"line {line}: class {row['label']!r} is declared twice")
        elif value not in CLINICAL_CLASSES:
            faults.append(f"line {line}: {row['clinical']!r} is no clinical class")
        else:
            found[row["label"]] = Meaning(value, row.get("title", ""))
    raise_faults(path, faults, mend=f"clinical is one of: {', '.join(CLINICAL_CLASSES)}")
    return found


def clinical_class(value: str, *, where: str) -> str:
    """A clinical class by its name, whatever its case.

    Raises:
        LabelError: no clinical class has this name.
    """
    key = likeness(value)
    if key in CLINICAL_CLASSES:
        return key
    raise LabelError(
        f"{value!r} is no clinical class",
        where=where,
        mend=f"{did_you_mean(key, CLINICAL_CLASSES)} Use one of: "
        f"{', '.join(CLINICAL_CLASSES)}".strip(),
    )


def _ordered(meanings: Mapping[str, Meaning], declared: Sequence[str]) -> LabelSet:
    clinical_order = (NO_CELL, OTHER_CELL, LYMPHOBLAST)

    def place(name: str) -> tuple[int, int, str]:
        key = likeness(name)
        first = declared.index(key) if key in declared else len(declared)
        return first, clinical_order.index(meanings[name].clinical), name

    names = tuple(sorted(meanings, key=place))
    known = {name: known_meaning(name) for name in names}
    titles = {
        name: meanings[name].title or (m.title if (m := known[name]) else "") for name in names
    }
    return LabelSet(
        names,
        {name: meanings[name].clinical for name in names},
        {name: title for name, title in titles.items() if title},
    )


def _class_named(name: str, found: Sequence[str], root: Path) -> str:
    keys = {likeness(other): likeness(other) for other in found}
    key = likeness(name)
    if key in keys:
        return key
    raise LabelError(
        f"a meaning is declared for class {name!r}, which this data set does not have",
        where=f"{root} (classes: {', '.join(found)})",
        mend=did_you_mean(name, found) or "declare only classes that the data set has",
    )


def refuse_single_class(samples: Iterable[Sample], *, where: object, mend: str) -> None:
    """Raise where all images carry one label.

    Raises:
        LabelError: there is only one class.
    """
    found = {sample.label for sample in samples}
    if len(found) < 2:
        raise LabelError(f"only one class: {found.pop()!r}", where=where, mend=mend)


def _refuse_single(found: Sequence[str], root: Path) -> None:
    if len(found) < 2:
        raise LabelError(
            f"only one class: {found[0]!r}" if found else "no class at all",
            where=root,
            mend="a data set needs two classes or more; give the folder that holds all of them",
        )


def _refuse_two_spellings(found: Sequence[str], root: Path) -> None:
    if double := lookalikes(found):
        raise LabelError(
            "one class in two spellings: "
            + "; ".join(" and ".join(map(spelled, names)) for names in double),
            where=root,
            mend="spell each class in one way",
        )


def _refuse_unknown(unknown: Sequence[str], root: Path) -> None:
    if not unknown:
        return
    named = []
    for name in unknown:
        hint = did_you_mean(likeness(name), KNOWN)
        named.append(f"{name!r} ({hint})" if hint else repr(name))
    count = "a class has" if len(unknown) == 1 else f"{len(unknown)} classes have"
    cnmc = any(likeness(name) in ("all", "hem") for name in unknown)
    raise LabelError(
        f"{count} no known clinical meaning: {', '.join(named)}",
        where=root,
        mend=f"say for each whether it is {LYMPHOBLAST}, {OTHER_CELL} or {NO_CELL}: a file "
        f"{CLASSES_FILE} in this folder with the lines 'label,clinical' and "
        f"'{unknown[0]},other cell', or --clinical '{unknown[0]}=other cell' "
        f"(in Python: clinical={{{unknown[0]!r}: 'other cell'}})"
        + ("; 'all' and 'hem' are known only in C-NMC's own files, UID_..." if cnmc else ""),
    )
