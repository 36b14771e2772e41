"""On which side of a split an image lies, and units merged so that duplicates stay on one side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cellkin.core.artifacts import read_json, write_table
from cellkin.core.errors import LayoutError, SplitError
from cellkin.core.records import Dataset, Split
from cellkin.datasets.parts.grouping import grouped
from cellkin.datasets.parts.leakage import twins
from cellkin.datasets.parts.splits import single, verify_split
from cellkin.datasets.saved import save_dataset
from cellkin.imaging.series import is_shared


def read_split(path: str | Path) -> tuple[Split, ...]:
    """The split (or the folds) of a file that `cellkin split` wrote, or the split of an atlas.

    Raises:
        SplitError: there is no such file, or it holds no split.
    """
    path = Path(path).expanduser()
    file = path / "split.json" if path.is_dir() else path
    if not file.is_file():
        raise SplitError(
            "there is no saved split here",
            where=file,
            mend="give a file that cellkin split wrote, or an atlas folder",
        )
    try:
        data = read_json(file)
        rows = data.get("splits", [data])
        return tuple(Split.from_json(row) for row in rows)
    except (KeyError, TypeError, AttributeError) as error:
        raise SplitError(
            f"this file holds no split ({type(error).__name__}: {error})",
            where=file,
            mend="give one with the lists train, val, calibration and test, the unit and the seed",
        ) from None


def sides_of(dataset: Dataset, splits: Sequence[Split], seed: int) -> tuple[dict[str, str], str]:
    """Id -> part of the split, and what the split is in words ("no split: ..." without one).

    Of several folds the side is the fold that tests an image. Without a split, the first fold that
    `datasets.folds` would cut is taken.

    Raises:
        SplitError: a split that was given does not belong to this data set.
    """
    for given in splits:
        verify_split(given, dataset)
    if len(splits) > 1:
        words = f"the {len(splits)} given folds by {splits[0].unit}, seed {splits[0].seed}"
        tested = [(i, f"fold {n}") for n, s in enumerate(splits, start=1) for i in s.test]
        return dict(tested), words
    if splits:
        split = splits[0]
        words = f"the given split by {split.unit}, seed {split.seed}"
    else:
        try:
            split = single(dataset, seed=seed)
        except SplitError as error:
            return {}, f"no split: {error.what}"
        words = f"the default split by {split.unit}, seed {split.seed}"
    return {i: part for part, ids in split.parts().items() for i in ids}, words


def merged(dataset: Dataset, groups: Sequence[Sequence[str]]) -> Dataset:
    """The data set with units (subjects, else slides or fields, else images) joined by duplicates.

    What is documented (`leakage.twins`) joins them like what was found. Subjects of one cluster
    become one subject, called by all their names ("H2+H6"); so do groups; an image without a group
    is one of its own.
    """
    links = [*groups, *twins(dataset.samples).values()]
    subjects = grouped({s.id: s.subject for s in dataset if s.subject is not None}, links)
    own = grouped({s.id: s.group or s.id for s in dataset}, links)
    samples = (replace(s, subject=subjects.get(s.id), group=own[s.id]) for s in dataset)
    return replace(dataset, samples=tuple(samples))


def write_merged(dataset: Dataset, groups: Sequence[Sequence[str]], path: str | Path) -> Path:
    """Write the merged data set: `.json` as a description, `.csv` as a labels.csv.

    Raises:
        LayoutError: another suffix, or a labels.csv for images that are no files of their own.
        OutputError: the file cannot be written.
    """
    path = Path(path).expanduser()
    joined = merged(dataset, groups)
    if path.suffix.lower() == ".json":
        return save_dataset(joined, path, made_by={"verb": "audit", "clusters": len(groups)})
    if path.suffix.lower() != ".csv":
        raise LayoutError(
            "groups are written as .csv or .json",
            where=path,
            mend="name it labels.csv, to be put into the data set's folder, or groups.json, which "
            "cellkin opens from anywhere",
        )
    refs = [sample.image for sample in dataset]
    if any(is_shared(ref) or not ref.path.is_relative_to(dataset.root) for ref in refs):
        raise LayoutError(
            "a labels.csv lists files, and images of this data set are parts of files",
            where=path,
            mend="write --groups groups.json: cellkin opens it like a data set",
        )
    known = ("place", "fold")
    named = [name for name in known if any(getattr(s, name) is not None for s in joined)]
    columns = ("label", "subject", "group", *named)
    rows = [
        (s.image.path.relative_to(dataset.root).as_posix(), *(getattr(s, n) for n in columns))
        for s in joined
    ]
    return write_table(path, [("file", *columns), *rows])
