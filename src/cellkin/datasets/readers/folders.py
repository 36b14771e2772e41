"""Class folders: `root/<class>/<image>`. Deeper folders are passed through and mean nothing.

Two folders whose names are one text in different characters are one class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cellkin.core.errors import LabelError, LayoutError
from cellkin.core.names import plain
from cellkin.core.records import Dataset, ImageRef, Sample
from cellkin.datasets.listing import Listing, shown
from cellkin.datasets.vocabulary import label_set

LAYOUT = "class folders"
PART_NAME = re.compile(r"(train|test|val|valid)(ing|idation|ation)?|fold[ _-]?\d+", re.IGNORECASE)


def recognises(listing: Listing) -> bool:
    """Whether there are folders with images directly under the root."""
    return bool(listing.by_top_folder())


def read(listing: Listing, clinical: Mapping[str, str] | None = None) -> Dataset:
    """Read class folders; a class is named as its folder. No subjects: declare them in labels.csv.

    Raises:
        LayoutError: images lie beside the class folders; the folders are parts ("train", "test")
            instead of classes; the classes lie one folder deeper.
        LabelError: a class folder without images, only one class, or a class without a meaning.
    """
    _refuse_loose_images(listing)
    _refuse_parts(listing)
    images = listing.by_top_folder()
    _refuse_deeper_classes(listing)
    _refuse_empty_classes(listing, images)
    labels = label_set(images, root=listing.root, clinical=clinical)
    samples = tuple(
        Sample(id=plain(image), image=ImageRef(listing.root / image), labels=((name,),))
        for name, members in images.items()
        for image in members
    )
    return Dataset(
        name=listing.root.resolve().name,
        samples=tuple(sorted(samples, key=lambda sample: sample.id)),
        labels=labels,
        layout=LAYOUT,
        root=listing.root,
        notes=(*listing.notes(), "class folders name no subjects: cells are taken as independent"),
    )


def _refuse_loose_images(listing: Listing) -> None:
    loose = listing.loose_images
    if loose:
        raise LayoutError(
            f"{len(loose)} images lie beside the class folders: {shown(loose)}",
            where=listing.root,
            mend="move each image into the folder of its class, or take it away",
        )


def _refuse_parts(listing: Listing) -> None:
    parts = [name for name in listing.top_folders if PART_NAME.fullmatch(name)]
    if parts:
        raise LayoutError(
            f"these folders are parts of a split, not classes: {shown(parts)}",
            where=listing.root,
            mend=f"open one part alone ({listing.root / parts[0]}), or list all images in a "
            "labels.csv with the columns file,label,fold",
        )


def _refuse_deeper_classes(listing: Listing) -> None:
    folders = listing.top_folders
    inside = listing.below(folders[0]).top_folders if len(folders) == 1 else ()
    if len(inside) > 1:
        raise LayoutError(
            f"the only folder here is {folders[0]!r}; classes seem to lie one folder deeper",
            where=listing.root,
            mend=f"open {listing.root / folders[0]}",
        )


def _refuse_empty_classes(listing: Listing, images: Mapping[str, list[str]]) -> None:
    empty = [name for name in listing.top_folders if plain(name) not in images]
    if empty:
        raise LabelError(
            f"class folders without an image: {shown([repr(name) for name in empty])}",
            where=listing.root,
            mend="put images into each, or remove the folders",
        )
