"""One walk over a folder: which images, which other files, which folders. Nothing is opened."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cellkin.core.errors import LayoutError
from cellkin.core.names import plain

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
CONTAINER = ".npz"
DOCUMENTS = frozenset({"classes.csv", "labels.csv", "dataset.json"})
PAPERS = ("readme", "license", "licence")
MASKS = "masks"
# What operating systems, file servers and viewers leave in folders, beside all that is hidden
# (`.DS_Store`, `._x`, `.AppleDouble`, `.@__thumb`): previews, waste, settings. In lower case.
LITTER = re.compile(
    r"\..*|__macosx|@eadir|@__thumb|[@#]recycle|@recently-snapshot|[@#]snapshot|@tmp|lost\+found"
    r"|\$recycle\.bin|recycler|system volume information|network trash folder|temporary items"
    r"|(?:eh)?thumbs(?:_vista)?\.db|desktop\.ini|picasa\.ini|zbthumbnail\.info|icon\r?"
    r"|syno(?:photo|index|video)_.*|.*@syno(?:eastream|resource)",
    re.DOTALL,
)


def shown(items: Sequence[str], limit: int = 5) -> str:
    """The first `limit` items in one line, and how many more there are."""
    more = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {more} more" if more > 0 else "")


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its name (png jpg jpeg bmp tif tiff, in any case)."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left by a system, server or viewer."""
    return LITTER.fullmatch(name.lower()) is not None


@dataclass(frozen=True)
class Listing:
    """What lies under a folder, as paths relative to it, with `/`, sorted.

    Attributes:
        images: files that are images by their names.
        others: other files that are neither documents (`classes.csv`, `labels.csv`,
            `dataset.json`, README, LICENSE) nor litter.
        folders: all folders, empty ones too, but for `masks` and litter.
        litter: files and folders that nobody put here to be read, see `is_litter`.
    """

    root: Path
    images: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    litter: tuple[str, ...] = ()

    @property
    def top_folders(self) -> tuple[str, ...]:
        """The folders directly under the root."""
        return tuple(name for name in self.folders if "/" not in name)

    @property
    def loose_images(self) -> tuple[str, ...]:
        """The images directly under the root."""
        return tuple(name for name in self.images if "/" not in name)

    def by_top_folder(self) -> dict[str, list[str]]:
        """Images by the plain name of the folder directly under the root in which they lie, at any
        depth.
        """
        found: dict[str, list[str]] = defaultdict(list)
        for image in self.images:
            top, slash, _ = image.partition("/")
            if slash:
                found[plain(top)].append(image)
        return dict(found)

    def below(self, folder: str) -> Listing:
        """The part of this listing under one of its folders."""
        prefix = f"{folder}/"

        def cut(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(n.removeprefix(prefix) for n in names if n.startswith(prefix))

        parts = (self.images, self.others, self.folders, self.litter)
        return Listing(self.root / folder, *map(cut, parts))

    def notes(self, *, expected: Collection[str] = ()) -> tuple[str, ...]:
        """What a user should know about files that were passed over; `expected` ones were read."""
        others = [name for name in self.others if name not in expected]
        said = []
        if others:
            verb = "file is no image by its name"
            if len(others) > 1:
                verb = "files are no images by their names"
            said.append(f"{len(others)} {verb}: {shown(others)}")
        if self.litter:
            said.append(
                f"hidden, or litter of a system or server, and passed over: {shown(self.litter)}"
            )
        return tuple(said)


@dataclass(frozen=True)
class Files:
    """Some files of one folder, by their names: a million paths would not be small.

    Attributes:
        root: "." for files that are named one by one.
    """

    root: Path
    names: Sequence[str]

    @property
    def paths(self) -> list[Path]:
        return [self.root / name for name in self.names]

    def blocks(self, size: int) -> Iterator[Files]:
        for start in range(0, len(self.names), size):
            yield Files(self.root, tuple(self.names[start : start + size]))


def list_folder(folder: str | Path) -> Listing:
    """List a data set's folder; `~` is expanded, symbolic links are followed, no file is opened.

    Raises:
        LayoutError: there is no such folder, it is a file, it may not be read, it is empty, or it
            holds neither an image nor a `.npz`; a name in it is no valid text, or two names of
            images in it are the same text.
    """
    root = _existing_folder(folder)
    found: dict[str, list[str]] = {"image": [], "other": [], "folder": [], "litter": []}
    for relative, kind in _walk(root, "", (os.path.realpath(root),)):
        found[kind].append(relative)
    _refuse_strange_names(root, found["image"] + found["folder"])
    _refuse_twins(root, found["image"])
    listing = Listing(root, *(tuple(sorted(names)) for names in found.values()))
    if not listing.images and not any(n.lower().endswith(CONTAINER) for n in listing.others):
        raise no_images(listing)
    return listing


def no_images(listing: Listing) -> LayoutError:
    """The error for a folder without images."""
    something = listing.folders or listing.others
    return LayoutError(
        "this folder holds no images" if something else "this folder is empty",
        where=listing.root,
        mend="give the folder of a data set; images end in " + ", ".join(sorted(IMAGE_SUFFIXES)),
    )


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
        if is_litter(entry.name):
            yield relative, "litter"
        elif entry.is_dir():
            real = os.path.realpath(entry.path)
            if entry.name.lower() == MASKS or real in above:  # a link back up would never end
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


def _ignored(name: str) -> bool:
    lower = name.lower()
    return lower in DOCUMENTS or (lower.startswith(PAPERS) and not is_image_name(name))


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


def _refuse_twins(root: Path, names: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for name in names:
        if (other := first.setdefault(plain(name), name)) != name:
            raise LayoutError(
                "two names are the same text, written in different characters",
                where=f"{root}: {other!a} and {name!a}",
                mend="compare the two, and keep one or rename one",
            )


def refuse_backslashes(listing: Listing) -> None:
    """Refuse images whose names hold a path of Windows.

    Raises:
        LayoutError: a name holds a backslash.
    """
    if named := [name for name in listing.images if "\\" in name]:
        first = named[0].replace("\\", "/")
        raise LayoutError(
            f"the names of {len(named)} images hold a backslash: {shown(named)}",
            where=listing.root,
            mend="their archive was packed on Windows by a program that parts folders with '\\', "
            "which is part of a name here: unpack it with one that knows (7z x, bsdtar -xf), or "
            f"move each file into its folder ({first} and so on)",
        )
