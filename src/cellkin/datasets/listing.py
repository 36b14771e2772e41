"""One walk over a folder: which images, which other files, which folders. Nothing is opened."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cellkin.core.errors import LayoutError

__all__ = ["IMAGE_SUFFIXES", "Listing", "is_image_name", "list_folder", "no_images", "shown"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
CONTAINER = ".npz"
DOCUMENTS = frozenset({"classes.csv", "labels.csv", "dataset.json"})
PAPERS = ("readme", "license", "licence")
LITTER = frozenset({"thumbs.db", "desktop.ini"})
SKIPPED_FOLDERS = frozenset({"masks", "__macosx"})


def shown(items: Sequence[str], limit: int = 5) -> str:
    """The first `limit` items in one line, and how many more there are."""
    more = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {more} more" if more > 0 else "")


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its name (png jpg jpeg bmp tif tiff, in any case)."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


@dataclass(frozen=True)
class Listing:
    """What lies under a folder, as paths relative to it, with `/`, sorted.

    Attributes:
        images: files that are images by their names.
        others: other files that are neither documents (`classes.csv`, `labels.csv`,
            `dataset.json`, README, LICENSE) nor litter of an operating system.
        folders: all folders, empty ones too; hidden ones and `masks` are passed over.
    """

    root: Path
    images: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    folders: tuple[str, ...] = field(default=())

    @property
    def top_folders(self) -> tuple[str, ...]:
        """The folders directly under the root."""
        return tuple(name for name in self.folders if "/" not in name)

    @property
    def loose_images(self) -> tuple[str, ...]:
        """The images directly under the root."""
        return tuple(name for name in self.images if "/" not in name)

    def by_top_folder(self) -> dict[str, list[str]]:
        """Images by the folder directly under the root in which they lie, at any depth."""
        found: dict[str, list[str]] = defaultdict(list)
        for image in self.images:
            top, slash, _ = image.partition("/")
            if slash:
                found[top].append(image)
        return dict(found)

    def below(self, folder: str) -> Listing:
        """The part of this listing under one of its folders."""
        prefix = f"{folder}/"

        def cut(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(n.removeprefix(prefix) for n in names if n.startswith(prefix))

        return Listing(self.root / folder, cut(self.images), cut(self.others), cut(self.folders))

    def notes(self, *, expected: Collection[str] = ()) -> tuple[str, ...]:
        """What a user should know about files that were passed over; `expected` ones were read."""
        others = [name for name in self.others if name not in expected]
        if not others:
            return ()
        verb = (
            "file is no image by its name"
            if len(others) == 1
            else ("files are no images by their names")
        )
        return (f"{len(others)} {verb}: {shown(others)}",)


def list_folder(folder: str | Path) -> Listing:
    """List a data set's folder; `~` is expanded, symbolic links are followed, no file is opened.

    Raises:
        LayoutError: there is no such folder, it is a file, it may not be read, it is empty, or it
            holds neither an image nor a `.npz`; or a name in it is no valid text.
    """
    root = _existing_folder(folder)
    images: list[str] = []
    others: list[str] = []
    folders: list[str] = []
    for relative, kind in _walk(root, "", (os.path.realpath(root),)):
        {"image": images, "other": others, "folder": folders}[kind].append(relative)
    _refuse_strange_names(root, images + folders)
    listing = Listing(root, tuple(sorted(images)), tuple(sorted(others)), tuple(sorted(folders)))
    if not images and not any(name.lower().endswith(CONTAINER) for name in others):
        raise no_images(listing)
    return listing


def no_images(listing: Listing) -> LayoutError:
    """The error for a folder without images."""
    something = listing.folders or listing.others
    return LayoutError(
        "this folder holds no images" if something else "this folder is empty",
        where=listing.root,
        mend=f"give the folder of a data set; images end in {_suffixes()}",
    )


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


def _existing_folder(folder: str | Path) -> Path:
    try:
        root = Path(folder).expanduser()
    except RuntimeError as error:
        raise LayoutError(str(error), where=folder, mend="write the folder's full path") from None
    if root.is_dir():
        return root
    if root.exists():
        raise LayoutError(
            "this is a file, not a folder",
            where=root,
            mend="unpack the archive and give the folder, or give the folder the file lies in",
        )
    raise LayoutError("there is no such folder", where=root, mend="check the path")


def _walk(root: Path, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for entry in _entries(root / prefix):
        relative = f"{prefix}{entry.name}"
        if entry.is_dir():
            real = os.path.realpath(entry.path)
            if _skipped_folder(entry.name) or real in above:  # a link back up would never end
                continue
            yield relative, "folder"
            yield from _walk(root, f"{relative}/", (*above, real))
        elif not _ignored(entry.name):
            readable = entry.is_file() or entry.is_symlink()
            yield relative, "image" if readable and is_image_name(entry.name) else "other"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise LayoutError(
            f"this folder cannot be read: {error.strerror}",
            where=folder,
            mend="ask its owner for permission to read it",
        ) from error


def _skipped_folder(name: str) -> bool:
    return name.startswith(".") or name.lower() in SKIPPED_FOLDERS


def _ignored(name: str) -> bool:
    lower = name.lower()
    paper = lower.startswith(PAPERS) and not is_image_name(name)
    return name.startswith(".") or lower in LITTER or lower in DOCUMENTS or paper


def _refuse_strange_names(root: Path, names: Sequence[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise LayoutError(
                "a file name is no valid UTF-8 text",
                where=root / name.encode(errors="replace").decode(),
                mend="rename the file; ids of images are made of their names",
            ) from None
