"""Options are frozen records: an unknown name is refused, and nothing is passed over."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import pytest

from cellkin.core.errors import RecipeError
from cellkin.core.options import Options
from cellkin.proving.proving import Verifying, VerifyOptions
from cellkin.study.evaluate import StudyOptions
from cellkin.study.fold_cells import WorkOptions
from cellkin.system import (
    AdoptOptions,
    HalvingOptions,
    IndexOptions,
    InjectOptions,
    PretrainOptions,
    TrainOptions,
)
from cellkin.system.compiling import CompileOptions

KINDS = [
    AdoptOptions,
    CompileOptions,
    HalvingOptions,
    IndexOptions,
    InjectOptions,
    PretrainOptions,
    StudyOptions,
    TrainOptions,
    Verifying,
    VerifyOptions,
    WorkOptions,
]


def kinds(of: type[Options]) -> set[type[Options]]:
    return {found for kind in of.__subclasses__() for found in (kind, *kinds(kind))}


def test_every_kind_of_options_is_tested_here() -> None:
    assert kinds(Options) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_option_is_refused_with_its_neighbour(kind: type[Options]) -> None:
    for known in fields(kind):
        wrong = f"{known.name}_"
        with pytest.raises(RecipeError, match=f"unknown option '{wrong}'") as caught:
            kind(**{wrong: 1})
        assert f"did you mean {known.name!r}?" in caught.value.mend
    with pytest.raises(RecipeError) as caught:
        kind(**{"zzzzzz": 1})
    assert all(known.name in caught.value.mend for known in fields(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_options_do_not_change_and_can_be_copied(kind: type[Options]) -> None:
    options = kind()
    assert replace(options) == options
    with pytest.raises(FrozenInstanceError):
        setattr(options, fields(kind)[0].name, None)
    assert kind.__doc__
    for field in fields(kind):
        documented = "".join(str(k.__doc__) for k in kind.__mro__[:-2])
        assert field.name == "progress" or field.name in documented
