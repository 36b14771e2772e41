"""EXPERIMENT.toml: what is compared, on which cells, in which folds."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from cellkin.core.errors import RecipeError, did_you_mean
from cellkin.core.options import refuse_unknown
from cellkin.datasets.parts.places import PLACE
from cellkin.learning.recipes import load_recipe
from cellkin.study.alignment import ALIGNMENTS
from cellkin.study.predictions import PROPOSED

GIVEN = "given"
"""Instead of first weights: they are named on the command line, for each backbone."""

INJECTIONS = ("none", "nothing", "halves", "both")
"""Class injection (section 3.2): none, cell-free windows, classes in two, or both."""


@dataclass(frozen=True)
class Method:
    """One way to decide on a test cell: a row of the table.

    Attributes:
        kind: "trained" network, its "start" (the first weights as they are), the "frozen" ImageNet
            weights that cellkin ships, or colour "histogram".
        changes: fields of the recipe that differ; a training selects by what will decide.
        aligned: how a left-out place is laid over the others before its neighbours are sought, see
            `cellkin.study.alignment`; empty for as it is.
    """

    name: str
    kind: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    aligned: str = ""


VOTE: dict[str, Any] = {"select_by": "vote"}
HEAD: dict[str, Any] = {"select_by": "head", "keep_start": False}
PLAIN = HEAD | {"metric": 0.0, "together": 1}  # cross-entropy alone, batches by chance
METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(PROPOSED, "trained", VOTE),
        Method("softmax head", "trained", HEAD),
        Method("no metric learning", "trained", VOTE | {"metric": 0.0, "keep_start": False}),
        Method("no metric learning, softmax head", "trained", PLAIN),
        Method("frozen ImageNet + neighbours", "frozen", VOTE),
        Method("frozen start + neighbours", "start", VOTE),
        Method("colour histogram + neighbours", "histogram", VOTE),
        *(
            Method(f"{name}, {how}", kind, VOTE, aligned=how)
            for name, kind in (
                (PROPOSED, "trained"),
                ("frozen ImageNet + neighbours", "frozen"),
                ("frozen start + neighbours", "start"),
            )
            for how in ALIGNMENTS
        ),
    )
}


@dataclass(frozen=True)
class Drawn:
    """Cells to draw: `size` 0 is that of the layout, see `cellkin.drawing.plan.Order`."""

    layout: str = "folders"
    cells: int = 240
    subjects: int = 12
    size: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Patches:
    """Windows over fields, labelled by the cells inside, as `cellkin patches` cuts them.

    Attributes:
        others: a csv beneath the folder. window: side in pixels. overlap: share of it, in [0, 1).
    """

    others: str = "others.csv"
    window: int = 256
    overlap: float = 0.25


@dataclass(frozen=True)
class Windows:
    """Cell-free windows as `cellkin inject` takes them; 0 for its defaults."""

    count: int = 0
    side: int = 0


@dataclass(frozen=True)
class Timing:
    """How running times are measured: so many times each, 1 or more."""

    repeats: int = 5


@dataclass(frozen=True)
class Source:
    """Where the cells of one data set come from, and what is done to them first.

    Attributes:
        drawn: cells to draw.
        real: a folder beneath the folder of real cells (CELLKIN_REAL_DATA). path: any folder.
            Where none of the three is there, the command line names the folder.
        take: cells per class at most, 0 for all; drawn by `take_seed`.
        patches: cut windows over its fields.
        merge: new class -> classes that become it.
        nothing: the class of cell-free windows that the data set holds already.
        fields: the source whose images are fields to cut such windows from. windows: their number
            and side.
        halves: classes to look for two modes in; those that mean lymphoblast if empty.
        clinical: class -> clinical meaning, for classes of one's own.
    """

    name: str
    drawn: Drawn | None = None
    real: str = ""
    path: str = ""
    take: int = 0
    take_seed: int = 0
    patches: Patches | None = None
    merge: Mapping[str, list[str]] = field(default_factory=dict)
    nothing: str = ""
    fields: str = ""
    windows: Windows = Windows()
    halves: tuple[str, ...] = ()
    clinical: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class External:
    """A test on another data set: what was trained on `train` decides on `test`.

    Attributes:
        classes: class of `test` -> class of `train` that it should be called.
        without: classes of `test` that are left out; every class is in one of the two.
    """

    train: str
    test: str
    classes: Mapping[str, str]
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """What one EXPERIMENT.toml says. All combinations of the lists are evaluated.

    Attributes:
        kind: "study", or "timing" (see `cellkin.study.timing`).
        methods: names of `METHODS`. injections: of `INJECTIONS`.
        backbones, inits: of the recipe if empty. recipes: shipped names or TOML files.
        changes: fields of the recipes that differ.
        units: of the splits; "place" alone leaves out each place in turn (see
            `cellkin.study.places`). folds: n of the n-fold cross-validation.
        maps: whether test cells are placed on a map (Fig. 12).
        timing: of the kind "timing".
        text: the file as it was.
    """

    name: str
    title: str = ""
    about: str = ""
    kind: str = "study"
    methods: tuple[str, ...] = ("cellkin",)
    injections: tuple[str, ...] = ("none",)
    backbones: tuple[str, ...] = ()
    inits: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ("quick",)
    changes: Mapping[str, Any] = field(default_factory=dict)
    units: tuple[str, ...] = ("auto",)
    seeds: tuple[int, ...] = (0,)
    folds: int = 5
    maps: bool = True
    data: tuple[Source, ...] = ()
    external: tuple[External, ...] = ()
    timing: Timing = Timing()
    text: str = ""

    def source(self, name: str) -> Source:
        """The source of this name.

        Raises:
            RecipeError: there is none.
        """
        for source in self.data:
            if source.name == name:
                return source
        names = [source.name for source in self.data]
        raise _bad(name, f"data {name!r}", names)

    @property
    def across_places(self) -> bool:
        """Whether each place is left out in turn."""
        return PLACE in self.units

    @property
    def trained_on(self) -> tuple[Source, ...]:
        """The sources that are trained on: all but those that only test or give windows."""
        others = {source.fields for source in self.data}
        others |= {e.test for e in self.external} - {e.train for e in self.external}
        return tuple(source for source in self.data if source.name not in others)


TABLES: Mapping[str, type] = {
    "drawn": Drawn,
    "patches": Patches,
    "windows": Windows,
    "timing": Timing,
}


def experiment_names() -> list[str]:
    """The experiments that cellkin ships, by name."""
    folder = resources.files("cellkin") / "experiments"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load_experiment(name_or_path: str | Path) -> Experiment:
    """A shipped experiment by name, or one from a TOML file.

    Raises:
        RecipeError: no such experiment, broken TOML, an unknown key, name or combination.
    """
    text, where = _read(str(name_or_path))
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"broken TOML: {error}", where=where, mend="mend that line") from error
    told.setdefault("name", Path(where).stem)
    data = tuple(
        _record(Source, {"name": name, **table}, f"{where}, [data.{name}]")
        for name, table in _table(told, "data", where).items()
    )
    external = tuple(
        _record(External, table, f"{where}, [[external]] {i}")
        for i, table in enumerate(told.pop("external", []), start=1)
    )
    told = {**told, "data": data, "external": external, "text": text}
    experiment: Experiment = _record(Experiment, told, where)
    _check(experiment, where)
    return experiment


def recipe_fields(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe that may still lack its first weights.

    Raises:
        RecipeError: no such recipe, an unknown field or an impossible value.
    """
    return load_recipe(name, **{**changes, "needs_pretraining": False}).to_json()


def _read(name: str) -> tuple[str, str]:
    """The text of an experiment, and where it is."""
    path = Path(name).expanduser()
    if path.suffix == ".toml" and path.is_file():
        return path.read_text("utf-8"), str(path)
    if name in experiment_names():
        shipped = resources.files("cellkin") / "experiments" / f"{name}.toml"
        return shipped.read_text("utf-8"), f"{name}.toml"
    raise RecipeError(
        f"there is no experiment {name!r}",
        where=f"shipped: {', '.join(experiment_names())}",
        mend=did_you_mean(path.stem, experiment_names()) or "name one of these, or a .toml file",
    )


def _table(told: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    found = told.pop(key, {})
    if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
        raise RecipeError(
            f"{key!r} is no table of tables", where=where, mend=f"write [{key}.NAME] and its keys"
        )
    return found


def _record(kind: type, told: Any, where: str) -> Any:
    """A record from a table; lists become tuples, unknown or missing keys are refused."""
    known = {f.name: f for f in fields(kind)}
    refuse_unknown(told, known, "key", where=where)
    values = {
        key: tuple(value) if isinstance(value, list) and "tuple" in str(known[key].type) else value
        for key, value in told.items()
    }
    for key, value in values.items():
        _check_type(known[key].type, key, value, where)
    values |= {
        k: _record(TABLES[k], v, f"{where}, [{k}]") for k, v in values.items() if k in TABLES
    }
    try:
        return kind(**values)
    except TypeError as error:
        raise RecipeError(f"a key is missing: {error}", where=where, mend="add it") from error


def _check_type(declared: Any, key: str, value: Any, where: str) -> None:
    text = str(declared)
    fits = {
        "str": isinstance(value, str),
        "float": isinstance(value, float | int) and not isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
    }.get(text, isinstance(value, tuple) if "tuple" in text else isinstance(value, Mapping))
    if not fits:
        plain = text in ("str", "int", "bool", "float")
        expected = text if plain else "a list" if "tuple" in text else "a table"
        raise RecipeError(
            f"{key} = {value!r} is not possible",
            where=where,
            mend=f"give a value of type {expected}",
        )


def _check(experiment: Experiment, where: str) -> None:
    lists = (
        ("kind", [experiment.kind], ("study", "timing")),
        ("methods", experiment.methods, tuple(METHODS)),
        ("injections", experiment.injections, INJECTIONS),
    )
    for key, values, known in lists:
        if not values:
            raise RecipeError(f"{key} is empty", where=where, mend=f"name one: {', '.join(known)}")
        for value in values:
            if value not in known:
                raise _bad(str(value), f"{where}, {key}", list(known))
    if experiment.timing.repeats < 1:
        raise RecipeError("nothing is measured", where="[timing] repeats", mend="give 1 or more")
    for name in experiment.recipes:
        recipe_fields(name, experiment.changes)
    for source in experiment.data:
        if source.fields:
            experiment.source(source.fields)
        if sum((source.drawn is not None, bool(source.real), bool(source.path))) > 1:
            raise RecipeError(
                f"[data.{source.name}] comes from two places",
                where=where,
                mend="keep one of drawn, real and path",
            )
    if experiment.kind == "study" and not experiment.data and not experiment.across_places:
        raise RecipeError("there are no cells", where=where, mend="add a table [data.NAME]")
    _check_external(experiment, where)
    _check_places(experiment, where)


def _check_places(experiment: Experiment, where: str) -> None:
    others = {*experiment.units} - {PLACE} or {*experiment.injections} - {"none"}
    if experiment.across_places and (others or experiment.external):
        raise RecipeError(
            'units = ["place"] stands alone: no other unit, no injection, no external test',
            where=where,
            mend="make two experiments of it",
        )
    alone = [name for name in experiment.methods if METHODS[name].aligned]
    if alone and not experiment.across_places:
        raise RecipeError(
            f"{alone[0]!r} is about places",
            where=f"{where}, methods",
            mend='leave it away, or take units = ["place"]',
        )


def _check_external(experiment: Experiment, where: str) -> None:
    for external in experiment.external:
        experiment.source(external.train)
        experiment.source(external.test)
    if experiment.external and set(experiment.injections) & {"halves", "both"}:
        raise RecipeError(
            "an external test knows no imaging groups",
            where=f"{where}, injections",
            mend='take injections = ["none"] or ["nothing"] beside [[external]]',
        )


def _bad(value: str, where: str, known: list[str]) -> RecipeError:
    return RecipeError(
        f"{value!r} is not known here",
        where=where,
        mend=did_you_mean(value, known) or f"use one of: {', '.join(known)}",
    )
