"""Printed tables: published tables, made-up ones that are true, and ones that cannot be."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cellkin.cli.main import app
from cellkin.core.errors import DataError
from cellkin.printed import judging
from cellkin.printed.definitions import strange_shares
from cellkin.printed.fixed_folds import Column, Found, allocations, search_fixed
from cellkin.printed.judging import FITS, IMPOSSIBLE, OPEN, check_rows
from cellkin.printed.random_folds import fold_sizes
from cellkin.printed.tables import _row, parse_cell, parse_row, read_table
from cellkin.printed.words import check_json, check_lines


def row(printed: dict[str, str], classes: tuple[str, ...] = ("normal=130", "blast=130"), folds=5):
    return parse_row(classes, ["blast"], folds, printed)


def checked(printed: dict[str, str], **more: object):
    (source,) = check_rows([row(printed, **more)])
    return source.rows[0]


def printed_from(wrong: dict[str, list[int]], sizes: dict[str, int], ddof: int) -> dict[str, str]:
    """A row as an honest author prints it, with so many wrong cells in each fold."""
    found = {}
    total = np.zeros(len(wrong["sensitivity"]))
    for name, counts in wrong.items():
        shares = 100 * (1 - np.array(counts) / sizes[name])
        total = total + np.array(counts)
        found[name] = f"{shares.mean():.2f} ± {shares.std(ddof=ddof):.2f}"
    shares = 100 * (1 - total / sum(sizes.values()))
    found["accuracy"] = f"{shares.mean():.2f} ± {shares.std(ddof=ddof):.2f}"
    return found


# the paper's tables --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table_5():
    _, rows = read_table("paper-table-5")
    return {source.source: source for source in check_rows(rows)}


def test_table_5_is_one_error_among_27_normals_of_one_fold(table_5) -> None:
    found = table_5["the paper"].rows[0]
    assert found.stated_outcome.state == IMPOSSIBLE
    ((reading, outcome),) = found.fitting
    assert (reading.sensitivity, reading.specificity) == (
        ("lymphoblast (1)", "lymphoblast (2)"),
        ("normal",),
    )
    assert (reading.swapped, reading.cut, reading.half) == (False, False, False)
    assert (reading.ddofs[0], reading.ddofs[2]) == (0, 1)
    wrong = outcome.witness.wrong[1]
    fold = wrong.index(1)
    assert (sum(wrong), outcome.witness.sizes[1][fold]) == (1, 27)
    assert sum(outcome.witness.wrong[2]) == 1


def test_table_5_mixes_two_definitions_in_one_column(table_5) -> None:
    source = table_5["the paper"]
    assert [reading.specificity for reading in source.common] == [("normal",)]
    assert source.mixed == ("accuracy",)
    assert source.definitions["accuracy"] == {
        "ResNet18": (0,),
        "ResNet34": (0,),
        "ResNet50": (0,),
        "vit_b_16": (1,),
    }
    text = "\n".join(check_lines([source]))
    assert "1 of 27 normal wrong in one fold" in text
    assert "the accuracy column mixes both definitions" in text


def test_one_sentence_says_how_the_rows_of_a_table_stand() -> None:
    _, rows = read_table("paper-table-8")
    some = [next(r for r in rows if r.source == "[10]"), next(r for r in rows if "vit" in r.name)]
    *_, last = check_lines(check_rows(some))
    assert last == "In short: of 2 rows, 1 can be as stated, 1 only if read otherwise than stated."


def test_without_the_confusion_matrix_the_two_classes_of_130_cannot_be_told(table_5) -> None:
    resnet50 = next(r for r in table_5["the paper"].rows if r.row.name == "ResNet50")
    assert resnet50.row.confusion == ()
    assert {("nothing",), ("normal",)} <= {r.specificity for r, _ in resnet50.fitting}


def test_table_5s_earlier_rows_are_tests_of_half_the_cells(table_5) -> None:
    for name in ("[32]", "[9]"):
        source = table_5[name]
        assert {found.stated_outcome.state for found in source.rows} == {IMPOSSIBLE}
        assert [reading.half for reading in source.common] == [True]


def test_table_6s_percentages_are_cut_off_or_no_number_of_cells(table_5) -> None:
    notes = strange_shares(table_5["the paper"].rows[0].row)
    assert any("33.07 %" in note and note.endswith(", cut off") for note in notes)
    assert any("14.64 %" in note and "neither" in note for note in notes)


def test_table_8_fits_the_earlier_work_only_with_swapped_classes() -> None:
    _, rows = read_table("paper-table-8")
    (source,) = check_rows([r for r in rows if r.source == "[10]"][:1])
    (found,) = source.rows
    assert found.stated_outcome.state == IMPOSSIBLE
    assert all(reading.swapped for reading, _ in found.fitting)
    assert all(len(reading.departures(found.row)) == 1 for reading, _ in found.fitting)
    assert "make 6.31 to 7.09 % of all cells wrong" in found.stated_outcome.why


def test_table_8_fits_the_paper_as_it_says() -> None:
    _, rows = read_table("paper-table-8")
    (source,) = check_rows([r for r in rows if r.name == "vit_b_16"])
    assert source.rows[0].stated_outcome.state == FITS


# made-up tables ------------------------------------------------------------------------------

counts = st.lists(st.integers(0, 4), min_size=5, max_size=5)


@settings(deadline=None, max_examples=25)
@given(counts, counts, st.sampled_from([0, 1]))
def test_what_an_honest_author_prints_can_co_exist(
    blasts: list[int], others: list[int], ddof: int
) -> None:
    sizes = {"sensitivity": 26, "specificity": 26}
    wrong = {"sensitivity": blasts, "specificity": others}
    assert checked(printed_from(wrong, sizes, ddof)).stated_outcome.state == FITS


@settings(deadline=None, max_examples=15)
@given(counts, counts)
def test_a_witness_gives_the_printed_numbers(blasts: list[int], others: list[int]) -> None:
    sizes = {"sensitivity": 26, "specificity": 26}
    printed = printed_from({"sensitivity": blasts, "specificity": others}, sizes, 1)
    found = checked(printed)
    witness, ddof = found.stated_outcome.witness, found.stated.ddofs[0]
    names = [name for name, _ in found.stated.parts] + ["accuracy"]
    for name, cells, wrong in zip(names, witness.sizes, witness.wrong, strict=True):
        shares = 100 * (1 - np.array(wrong) / np.array(cells))
        mean, deviation = (float(part) for part in printed[name].split(" ± "))
        assert abs(shares.mean() - mean) <= 0.005 + 1e-9
        assert abs(shares.std(ddof=ddof) - deviation) <= 0.005 + 1e-9


def test_swapped_classes_are_found_on_uneven_data() -> None:
    sizes = {"sensitivity": 20, "specificity": 60}
    honest = printed_from(
        {"sensitivity": [2, 3, 2, 1, 4], "specificity": [1, 0, 1, 2, 1]}, sizes, 1
    )
    swapped = {**honest, "sensitivity": honest["specificity"], "specificity": honest["sensitivity"]}
    classes = ("normal=300", "blast=100")
    assert checked(honest, classes=classes).stated_outcome.state == FITS
    found = checked(swapped, classes=classes)
    assert found.stated_outcome.state == IMPOSSIBLE
    assert all(reading.swapped for reading, _ in found.fitting)
    assert found.fitting


def test_an_accuracy_that_no_number_of_cells_gives() -> None:
    found = checked({"accuracy": "99.50"}, classes=("normal=26", "blast=26"))
    assert found.stated_outcome.state == IMPOSSIBLE
    assert "accuracy leaves no whole number wrong of 52" in found.stated_outcome.why


def test_an_accuracy_outside_its_recalls_is_refused_by_a_bound() -> None:
    found = checked({"accuracy": "99.00", "sensitivity": "90.00", "specificity": "91.00"})
    assert found.stated_outcome.state == IMPOSSIBLE
    assert "the recalls make" in found.stated_outcome.why


def test_means_alone_are_checked_too() -> None:
    assert checked({"accuracy": "98.46", "sensitivity": "99.23", "specificity": "97.69"}).fitting


def test_a_deviation_is_told_by_its_definition() -> None:
    wrong = {"sensitivity": [1, 0, 0, 0, 0], "specificity": [0, 0, 0, 0, 0]}
    sizes = {"sensitivity": 26, "specificity": 26}
    for ddof in (0, 1):
        found = checked(printed_from(wrong, sizes, ddof))
        assert found.stated.ddofs[0] == ddof


def randomly_split(seed: int, ddof: int) -> dict[str, str]:
    """A row of an honest author whose folds hold a class as chance deals it."""
    rng = np.random.default_rng(seed)
    blasts = np.zeros(5, np.int64)
    left = np.array([100, 160])
    for fold in range(5):
        blasts[fold], other = rng.multivariate_hypergeometric(left, 52)
        left -= (blasts[fold], other)
    wrong = rng.binomial(blasts, 0.02), rng.binomial(52 - blasts, 0.02)
    shares = {
        "sensitivity": 100 * (1 - wrong[0] / blasts),
        "specificity": 100 * (1 - wrong[1] / (52 - blasts)),
        "accuracy": 100 * (1 - sum(wrong) / 52),
    }
    return {n: f"{s.mean():.2f} ± {s.std(ddof=ddof):.2f}" for n, s in shares.items()}


@pytest.mark.parametrize("ddof", [0, 1])
def test_folds_that_are_not_stratified_accuse_nobody(ddof: int) -> None:
    classes = ["normal=160", "blast=100"]
    rows = [parse_row(classes, ["blast"], 5, randomly_split(seed, ddof)) for seed in range(4)]
    (source,) = check_rows(rows)
    assert all(found.stated_outcome.state != IMPOSSIBLE for found in source.rows)
    assert source.mixed == ()
    assert all(ddof in left for rows in source.definitions.values() for left in rows.values())


def test_a_search_that_was_cut_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of the row, nor of its definition, nor in the summary."""
    numbers = {"accuracy": "99.74 ± 0.51", "sensitivity": "100.00 ± 0.00"}
    whole = checked(numbers, classes=("normal=260", "blast=130"))
    assert whole.stated_outcome.state == FITS
    monkeypatch.setattr("cellkin.printed.judging._stratified", lambda *_: Found(None, False))
    monkeypatch.setattr("cellkin.printed.judging._random", lambda *_: Found(None, False))
    (source,) = check_rows([row(numbers, ("normal=260", "blast=130"))] * 2)
    assert source.rows[0].stated_outcome.state == OPEN
    assert source.mixed == ()
    *_, last = check_lines([source])
    assert last == "In short: of 2 rows, 2 not decided: the search was cut."


def test_a_definition_whose_search_was_cut_is_not_ruled_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = judging._stratified

    def cut_for_population(row, reading, columns):
        ddofs = {d for column in columns.values() for d in column.ddofs}
        return Found(None, False) if ddofs == {0} else whole(row, reading, columns)

    monkeypatch.setattr("cellkin.printed.judging._stratified", cut_for_population)
    wrong = {"sensitivity": [1, 0, 0, 0, 0], "specificity": [0, 0, 0, 0, 0]}
    printed = printed_from(wrong, {"sensitivity": 26, "specificity": 26}, 1)
    (source,) = check_rows([row(printed)])
    assert source.rows[0].stated_outcome.state == FITS
    assert source.rows[0].stated.ddofs[0] == 1
    told = "\n".join(check_lines([source]))
    if source.rows[0].undecided_definitions:
        assert "not decided: the search was cut" in told
    else:  # proved impossible in another way, by folds drawn at random
        assert source.definitions["accuracy"]["row"] == (1,)


# one test set, and shares ---------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9), st.integers(0, 9))
def test_one_test_set_is_decided_for_sure(found: int, called: int) -> None:
    """Each of 9 x 9 cells right or wrong: whatever is printed of it, the verdict is a proof."""
    possible = {
        (f"{100 * a / 9:.1f}", f"{100 * b / 9:.1f}", f"{100 * (a + b) / 18:.1f}")
        for a, b in product(range(10), repeat=2)
    }
    printed = (f"{100 * found / 9:.1f}", f"{100 * called / 9:.1f}")
    for accuracy in {f"{100 * (found + called) / 18:.1f}", f"{100 * found / 9:.1f}"}:
        numbers = dict(
            zip(("sensitivity", "specificity", "accuracy"), (*printed, accuracy), strict=True)
        )
        outcome = checked(numbers, classes=("normal=9", "blast=9"), folds=1).stated_outcome
        assert (outcome.state == FITS) == ((*printed, accuracy) in possible), numbers
        assert outcome.state in (FITS, IMPOSSIBLE)


def test_one_test_set_has_no_standard_deviation() -> None:
    with pytest.raises(DataError, match="one test set"):
        row({"accuracy": "98.46 ± 0.97"}, folds=1)


def test_shares_of_one_are_the_percentages_that_they_are() -> None:
    percent = {"accuracy": "98.46 +- 0.97", "sensitivity": "99.08 +- 0.84", "specificity": "-"}
    shares = {"accuracy": "0.9846 +- 0.0097", "sensitivity": "0.9908 +- 0.0084"}
    one, other = row(percent), row(shares)
    assert (one.shares, other.shares) == (False, True)
    for name in shares:
        a, b = one.printed()[name], other.printed()[name]
        assert (a.value, a.unit, a.deviation, a.deviation_unit) == (
            b.value,
            b.unit,
            b.deviation,
            b.deviation_unit,
        )
    assert "read as percentages" in "\n".join(check_lines(check_rows([other])))
    assert not row({"accuracy": "0.98 %"}).shares
    assert not row({"accuracy": "98.0", "sensitivity": "0.00"}).shares


def test_a_share_beside_a_percentage_is_asked_about() -> None:
    with pytest.raises(DataError, match="a share of 1, or a percentage") as caught:
        row({"accuracy": "0.98", "sensitivity": "97.10"})
    assert "% sign" in caught.value.mend


def test_a_matrix_of_shares_is_read_as_its_row() -> None:
    given = {"classes": {"normal": 130, "blast": 130}, "positive": ["blast"], "folds": 5}
    matrix = [["0.5", "0"], ["0.0154", "0.4846"]]
    told = _row({**given, "accuracy": "0.9846", "confusion": matrix}, "here")
    assert [float(text) for line in told.confusion for text in line] == [50.0, 0, 1.54, 48.46]
    assert strange_shares(told) == ()


# the search ----------------------------------------------------------------------------------


def test_allocations_are_all_and_only_those_that_fit() -> None:
    sizes = np.array([5, 5, 6, 7])
    column = Column("accuracy", (0.20, 0.24), (0.05, 0.12), (1,))
    rows, complete = allocations(column, sizes)
    every = np.array(list(product(range(6), range(6), range(7), range(8))))
    wanted = every[column.fits(every / sizes)]
    assert complete
    assert len(wanted)
    assert sorted(rows.tolist()) == sorted(wanted.tolist())


def test_folds_of_equal_size_are_tried_in_one_order() -> None:
    sizes = np.array([9, 9, 9])
    column = Column("accuracy", (0.1, 0.3), (0.0, 0.2), (0,))
    every, _ = allocations(column, sizes)
    once, _ = allocations(column, sizes, alike=[-1, 0, 1])
    assert {tuple(r) for r in once.tolist()} == {tuple(sorted(r)) for r in every.tolist()}


def test_fold_sizes_are_all_that_fit() -> None:
    column = Column("specificity", (0.0, 0.02), (0.0, 0.03), (0,))
    wrong = np.array([1, 0, 1, 0])
    sizes, complete = fold_sizes(column, wrong, (20, 40))
    wanted = [
        [a, 0, b, 0]
        for a, b in product(range(20, 41), repeat=2)
        if column.fits(np.array([1 / a, 0, 1 / b, 0]))
    ]
    assert complete
    assert sorted(sizes.tolist()) == sorted(wanted)


def test_wrong_cells_of_a_class_that_is_not_printed_are_free() -> None:
    recall = Column("sensitivity", (0.0, 0.0), (0.0, 0.0), (0,))
    accuracy = Column("accuracy", (0.1, 0.1), None)
    folds = np.array([10, 10])
    none = np.zeros(2, np.int64)
    assert search_fixed([recall], accuracy, [folds], folds).witness is not None
    assert search_fixed([recall], accuracy, [folds], none).witness is None


# what is typed in ----------------------------------------------------------------------------


def test_printed_numbers_and_their_last_digit() -> None:
    cell = parse_cell("99.26 ± 1.66")
    assert (cell.value, cell.unit, cell.deviation, cell.deviation_unit) == (99.26, 0.01, 1.66, 0.01)
    assert parse_cell("99.3+-2").deviation_unit == 1.0
    assert parse_cell("98,9 (0,4)").value == 98.9
    assert parse_cell("—") is None
    low, high = parse_cell("99.0").wrong(cut=False)
    assert (round(low, 5), round(high, 5)) == (0.0095, 0.0105)
    low, high = parse_cell("99.0").wrong(cut=True)
    assert (round(low, 5), round(high, 5)) == (0.009, 0.01)
    for wrong in ("many", "120", "1 2 3"):
        with pytest.raises(DataError, match="no percentage"):
            parse_cell(wrong)


def test_a_csv_table_is_read_as_the_same_rows(tmp_path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        "name,folds,positive,accuracy,sensitivity,n:normal,n:blast\n"
        "a,5,blast,98.46 ± 0.97,-,130,130\n",
        encoding="utf-8",
    )
    title, (found,) = read_table(path)
    assert title == "table"
    assert (dict(found.classes), found.positive, found.folds) == (
        {"normal": 130, "blast": 130},
        ("blast",),
        5,
    )
    assert list(found.printed()) == ["accuracy"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = ", "no TOML"),
        ("title = 'x'", "no rows"),
        ("[[row]]\naccuray = '99'", "unknown key 'accuray'"),
        ("[[row]]\nclasses = {a = 1, b = 0}", "no whole number"),
        ("[[row]]\nclasses = {a = 5, b = 5}\npositive = ['c']", "no class is called 'c'"),
        ("[[row]]\nclasses = {a = 5, b = 5}\npositive = ['a']", "nothing to check"),
        ("[[row]]\nclasses = {a = 5, b = 5}\nsensitivity = '90'", "no class is positive"),
        (
            "[[row]]\nclasses = {a = 5, b = 5}\npositive = ['a']\naccuracy = '90'\n"
            "confusion = [['1']]",
            "confusion matrix",
        ),
    ],
)
def test_a_table_that_cannot_be_understood_is_an_error_with_its_place(
    tmp_path, text: str, words: str
) -> None:
    path = tmp_path / "t.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_table(path)


def test_an_unknown_table_is_told_with_those_that_come_along() -> None:
    with pytest.raises(DataError, match="no such table") as caught:
        read_table("paper-table-55")
    assert "paper-table-5" in caught.value.mend


# the verb ------------------------------------------------------------------------------------


def test_the_verb_takes_a_row_from_its_options() -> None:
    asked = ["check-table", "--class", "nothing=130", "--class", "normal=130", "--class", "b=130"]
    asked += ["--positive", "b", "--accuracy", "99.74 +- 0.51", "--specificity", "99.26 +- 1.66"]
    asked += ["--sensitivity", "100.00 +- 0.00", "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout.splitlines()[-1])
    (found,) = data["sources"][0]["rows"]
    assert found["stated"]["state"] == IMPOSSIBLE
    assert any("normal alone" in words for fit in found["fits"] for words in fit["departures"])


def test_the_verb_answers_to_its_earlier_name() -> None:
    asked = ["audit-table", "--class", "a=9", "--class", "b=9", "--accuracy", "50"]
    done = CliRunner().invoke(app, [*asked, "--folds", "1"])
    assert done.exit_code == 0, done.output
    assert "can co-exist" in done.stdout
    assert "audit-table" not in CliRunner().invoke(app, ["--help"]).stdout


def test_the_verb_wants_a_table_or_a_row() -> None:
    for asked in (["check-table"], ["check-table", "paper-table-5", "--class", "a=1"]):
        done = CliRunner().invoke(app, asked)
        assert isinstance(done.exception, DataError)
        assert "either a table or a row" in str(done.exception)
    assert CliRunner().invoke(app, ["check-table", "--class", "a"]).exit_code


def test_the_verdicts_as_data_is_plain(table_5) -> None:
    data = json.loads(json.dumps(check_json("t", list(table_5.values()))))
    assert data["sources"][-1]["mixed_columns"] == ["accuracy"]
