"""Open a data set: recognise how it lies on disk, say so, and read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cellkin.core.errors import LayoutError
from cellkin.core.records import Dataset
from cellkin.datasets.description import described
from cellkin.datasets.identity import identified
from cellkin.datasets.listing import Listing, list_folder, no_images, refuse_backslashes, shown
from cellkin.datasets.readers import (
    adp,
    allidb1,
    allidb2,
    bloodmnist,
    cnmc,
    cnmc_test,
    folders,
    pbc,
    table,
)
from cellkin.datasets.saved import open_saved


class Reader(Protocol):
    """One way a data set may lie on disk."""

    @property
    def LAYOUT(self) -> str:  # noqa: N802
        """The layout in words, as `Dataset.layout` says it."""

    def recognises(self, listing: Listing) -> bool:
        """Whether the folder is of this layout: by names, and the first line of a csv at most."""

    def read(self, listing: Listing, clinical: Mapping[str, str] | None = None) -> Dataset:
        """Read it, or raise what is wrong with it."""


# The first that recognises a folder reads it: what the user wrote down (labels.csv) goes before
# published data sets, and those before folders that are merely named after classes.
PUBLISHED: tuple[Reader, ...] = (allidb2, allidb1, cnmc_test, cnmc, pbc, bloodmnist, adp)
READERS: tuple[Reader, ...] = (table, *PUBLISHED, folders)


def open_dataset(folder: str | Path, *, clinical: Mapping[str, str] | None = None) -> Dataset:
    """Open a data set; its layout is recognised and said in `Dataset.layout`. No image is decoded.

    Args:
        folder: the data set's root, a `.npz` of BloodMNIST, or a description that cellkin wrote
            (`.json`, see `cellkin.datasets.saved`); `~` is expanded.
        clinical: class -> "lymphoblast", "other cell" or "no cell", for classes that neither a
            `classes.csv` in the root nor the vocabulary knows.

    Returns:
        the samples sorted by id (the path relative to the root, with `/`).

    Raises:
        LayoutError: the folder is missing, empty, without images, or of no known layout.
        LabelError: a class without images or without a clinical meaning, fewer than two classes,
            two names of subjects, slides, fields, folds or classes that look alike, or faults in
            `labels.csv` or `classes.csv`.
        SplitError: a subject lies in two of the publisher's folds.
    """
    path = Path(folder)
    if path.suffix.lower() in (".json", ".npz") and not path.expanduser().is_dir():
        saved = path.suffix.lower() == ".json"
        return identified(open_saved(path)) if saved else _open_npz(path, clinical)
    listing = list_folder(folder)
    if not table.recognises(listing):
        _refuse_others(listing)
        refuse_backslashes(listing)
    for reader in READERS:
        if reader.recognises(listing):
            if reader is folders:
                _refuse_published_inside(listing)
            return identified(described(reader.read(listing, clinical)))
    if not listing.images:
        raise no_images(listing)
    raise LayoutError(
        f"{len(listing.images)} images lie here without a label: {shown(listing.images)}",
        where=listing.root,
        mend="sort the images into one folder per class, or write a labels.csv with the columns "
        f"file,label; if this folder is itself a class, give {listing.root.parent}",
    )


def _refuse_others(listing: Listing) -> None:
    """Refuse what other verbs take: an atlas, and fields with boxes."""
    if (listing.root / "atlas.json").is_file():
        raise LayoutError(
            "this is an atlas, not a data set",
            where=listing.root,
            mend="cellkin inspect tells what is in it; give the folder of labelled images here",
        )
    if {"Annotations", "JPEGImages"} <= set(listing.top_folders):
        raise LayoutError(
            "these are whole fields with boxes (Pascal VOC), not single cells",
            where=listing.root,
            mend="cellkin find searches fields and cuts out their cells; give single cells here",
        )


def _open_npz(path: Path, clinical: Mapping[str, str] | None) -> Dataset:
    path = path.expanduser()
    if path.is_file() and not bloodmnist.FILE.fullmatch(path.name):
        raise LayoutError(
            "this .npz is not named as a data set that cellkin knows",
            where=path,
            mend="BloodMNIST is bloodmnist.npz, bloodmnist_224.npz, ...",
        )
    return bloodmnist.read_file(path, clinical)


def _refuse_published_inside(listing: Listing) -> None:
    for name in listing.top_folders:
        for reader in PUBLISHED:
            if reader.recognises(listing.below(name)):
                raise LayoutError(
                    f"{reader.LAYOUT} lies one folder deeper",
                    where=listing.root,
                    mend=f"open {listing.root / name}",
                )
