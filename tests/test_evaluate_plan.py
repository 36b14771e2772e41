"""Experiments as data: what they say, what they refuse, and the works that come of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from study_runs import tiny

from cellkin.core.errors import CellkinError, DataError, LabelError, RecipeError, SplitError
from cellkin.core.progress import silent
from cellkin.study.experiment_file import External, experiment_names, load_experiment
from cellkin.study.external import mapped_classes
from cellkin.study.plan import Work, plan
from cellkin.study.sources import Gathered, gather


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Gathered]:
    folder = tmp_path_factory.mktemp("plan")
    return gather(tiny(folder), {}, folder, silent)


def works(folder: Path, drawn: dict[str, Gathered], **lines: str) -> list[Work]:
    return plan(tiny(folder, **lines), drawn, {})


def keys(found: list[Work]) -> dict[tuple[str, str, int, str], str]:
    rows = [row.job for work in found for row in work.rows]
    return {(job.method, job.injection, job.fold, job.unit): job.key for job in rows}


@pytest.mark.parametrize("name", experiment_names())
def test_every_shipped_experiment_can_be_read(name: str) -> None:
    experiment = load_experiment(name)
    assert experiment.title
    assert experiment.methods
    small = [n for n in experiment_names() if n.endswith("-small")]
    topic = {"table8-cnmc": "cnmc", "table9-pbc": "pbc"}.get(name, name)
    assert name in small or f"{topic}-small" in small


def test_every_method_is_a_training_selected_by_what_decides(
    tmp_path: Path, drawn: dict[str, Gathered]
) -> None:
    found = works(tmp_path, drawn)
    per_fold = Counter(work.rows[0].job.fold for work in found)
    assert set(per_fold.values()) == {len(tiny(tmp_path).methods)}
    for work in found:
        (row,) = work.rows
        head = row.job.method.endswith("softmax head")
        assert work.recipe.select_by == ("head" if head else "vote")


def test_a_key_changes_with_what_decides_and_with_nothing_else(
    tmp_path: Path, drawn: dict[str, Gathered]
) -> None:
    before = keys(works(tmp_path, drawn))
    assert len(set(before.values())) == len(before)
    assert keys(works(tmp_path, drawn, lists="# another word")) == before
    longer = keys(works(tmp_path, drawn, changes="lr = 0.01"))
    for row, key in before.items():
        assert (longer[row] == key) == row[0].startswith("colour")
    moved = {"smears": replace(drawn["smears"], identity="other cells")}
    assert not set(keys(works(tmp_path, moved)).values()) & set(before.values())


def test_all_injections_share_their_folds(tmp_path: Path, drawn: dict[str, Gathered]) -> None:
    found = works(tmp_path, drawn, lists='injections = ["none", "both"]')
    nothing = {s.id for s in drawn["smears"].dataset.samples if s.label == "nothing"}
    pairs = {}
    for work in found:
        job = work.rows[0].job
        pairs.setdefault((job.method, job.fold), {})[job.injection] = work.split
    for parts in pairs.values():
        without, full = parts["none"].parts(), parts["class injection"].parts()
        for part, ids in full.items():
            assert set(ids) - nothing == set(without[part])
    assert {id_ for w in found for id_ in w.split.test} & nothing


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ({"lists": 'method = ["cellkin"]'}, "unknown key"),
        ({"lists": 'injections = ["halfs"]'}, "'halfs' is not known"),
        ({"lists": "seeds = 3"}, "a list"),
        ({"changes": "epoch = 3"}, "unknown key 'epoch'"),
        ({"more": 'real = "x"'}, "two places"),
        ({"more": 'fields = "smear"'}, "'smear' is not known"),
        ({"more": "[other.x]"}, "unknown key"),
        ({"more": "windows = { cuont = 3 }"}, "did you mean 'count'?"),
        ({"more": "patches = { windw = 64 }"}, "did you mean 'window'?"),
        ({"more": "patches = { overlap = true }"}, "of type float"),
        ({"more": "patches = 3"}, "of type a table"),
        ({"more": "[timing]\nrepeat = 2"}, "did you mean 'repeats'?"),
        ({"more": "x ="}, "broken TOML"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, lines: dict[str, str], match: str) -> None:
    with pytest.raises(RecipeError) as caught:
        tiny(tmp_path, **lines)
    assert match in f"{caught.value.what} {caught.value.where} {caught.value.mend}"
    assert caught.value.mend


def test_an_external_test_knows_no_imaging_groups(tmp_path: Path) -> None:
    table = '[[external]]\ntrain = "smears"\ntest = "smears"\nclasses = {}'
    with pytest.raises(RecipeError, match="imaging groups"):
        tiny(tmp_path, lists='injections = ["both"]', more=table)


def test_cells_that_have_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELLKIN_REAL_DATA", raising=False)
    with pytest.raises(DataError) as caught:
        gather(load_experiment("cnmc-small"), {}, tmp_path, silent)
    assert "--data cnmc=FOLDER" in caught.value.mend
    assert "CELLKIN_REAL_DATA" in caught.value.mend
    with pytest.raises(RecipeError, match="has no data 'cnmx'"):
        gather(load_experiment("cnmc-small"), {"cnmx": tmp_path}, tmp_path, silent)
    with pytest.raises(DataError, match="no such folder"):
        gather(load_experiment("cnmc-small"), {"cnmc": tmp_path / "x"}, tmp_path, silent)


def test_weights_that_have_to_be_named(tmp_path: Path, drawn: dict[str, Gathered]) -> None:
    experiment = replace(tiny(tmp_path), inits=("given",))
    with pytest.raises(RecipeError) as caught:
        plan(experiment, drawn, {})
    assert "--init test_resnet=" in caught.value.mend


def test_windows_that_are_not_there(tmp_path: Path, drawn: dict[str, Gathered]) -> None:
    bare = {"smears": replace(drawn["smears"], nothing="")}
    with pytest.raises(SplitError, match="no cell-free windows"):
        works(tmp_path, bare, lists='injections = ["nothing"]')


def test_classes_are_mapped_by_declaration(drawn: dict[str, Gathered]) -> None:
    data = drawn["smears"].dataset
    external = External("a", "b", {"lymphoblast": "lymphoblast"}, without=("nothing",))
    with pytest.raises(LabelError, match="'normal' of 'b' is not mapped"):
        mapped_classes(data, external, data.labels)
    crossed = replace(external, classes={"lymphoblast": "normal", "normal": "normal"})
    with pytest.raises(LabelError, match="'lymphoblast' means lymphoblast"):
        mapped_classes(data, crossed, data.labels)
    declared = replace(external, classes={"lymphoblast": "lymphoblast", "normal": "normal"})
    mapped = mapped_classes(data, declared, data.labels)
    assert {s.label for s in mapped.samples} == {"lymphoblast", "normal"}
    with pytest.raises(CellkinError, match="unknown class"):
        mapped_classes(
            data, replace(declared, classes={"normal": "x", "lymphoblast": "y"}), data.labels
        )


def test_drawn_cells_are_drawn_once(tmp_path: Path) -> None:
    experiment = tiny(tmp_path)
    first = gather(experiment, {}, tmp_path, silent)["smears"]
    drawings: list[str] = []
    second = gather(experiment, {}, tmp_path, lambda task, done, n: drawings.append(task))
    assert second["smears"].identity == first.identity
    assert drawings == []
    assert "lymphoblast" in first.dataset.labels.names
    fewer = replace(experiment.data[0], take=5)
    taken = gather(replace(experiment, data=(fewer,)), {}, tmp_path, silent)["smears"]
    assert set(taken.dataset.counts().values()) == {5}
    assert {s.id for s in taken.dataset.samples} < {s.id for s in first.dataset.samples}
