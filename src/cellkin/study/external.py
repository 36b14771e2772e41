"""External tests: what was trained on one data set decides on another.

Classes are mapped by declaration, never by their names, and only to classes of the same clinical
meaning; a class that is neither mapped nor left out is an error.
"""

from __future__ import annotations

from dataclasses import replace

from cellkin.core.errors import LabelError
from cellkin.core.records import Dataset, LabelSet
from cellkin.study.experiment_file import External


def mapped_classes(tested: Dataset, external: External, labels: LabelSet) -> Dataset:
    """The cells of an external test, under the classes that they should be called.

    Raises:
        LabelError: a class that is neither mapped nor left out, or mapped to one that is not
            trained, or to another clinical meaning.
    """
    where = f"[[external]] {external.train} -> {external.test}"
    for name in tested.labels.names:
        if name not in external.classes and name not in external.without:
            raise LabelError(
                f"the class {name!r} of {external.test!r} is not mapped",
                where=where,
                mend=f"say what it should be called ({', '.join(labels.names)}), or name it in "
                "`without`",
            )
    for name, meant in external.classes.items():
        labels.index(meant)
        if name in tested.labels.names and labels.clinical[meant] != tested.labels.clinical[name]:
            raise LabelError(
                f"{name!r} means {tested.labels.clinical[name]}, {meant!r} means "
                f"{labels.clinical[meant]}",
                where=where,
                mend="map classes of one clinical meaning to each other",
            )
    samples = tuple(
        replace(s, labels=((external.classes[s.label],),))
        for s in tested.samples
        if s.label in external.classes
    )
    return replace(tested, samples=samples, labels=labels)
