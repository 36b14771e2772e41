"""Names of persons, slides, classes and files: which spellings are one name.

`plain` takes away what no reader can see and no writer means: the Unicode form, invisible
characters, and white space around. Two plain names with one `likeness` look alike: they are refused
with both spellings, never joined and never kept apart (decision 027).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache

REMEMBERED = 1 << 16  # names whose form is kept: every fold of a data set asks again
JOINERS = "\u200c\u200d"  # invisible, and yet letters of Persian and Indic scripts
UNKNOWN = frozenset(
    [
        *("n a", "na", "n.a", "nan", "nat", "nil", "none", "null", "unk", "anon", "anonymous"),
        *("unknown", "unspecified", "undefined", "missing", "not a number", "not applicable"),
        *("not available", "not known", "not specified", "not stated"),
    ]
)
# Cyrillic and Greek letters whose capitals are drawn as Latin ones.
DRAWN_ALIKE = str.maketrans("авекмнорстухіјѕαβεηικμνορτυχ", "abekmhopctyxijsabehikmnoptyx")
FLOAT = re.compile(r"(\d+)(?:\.0+|,0{1,2})")
SEPARATORS = re.compile(r"[\s_\-\u2010-\u2015\u2212]+")
LETTER_DIGIT = re.compile(r"(?<=[^\W\d])(?=\d)|(?<=\d)(?=[^\W\d])")
LEADING_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")


@lru_cache(REMEMBERED)
def plain(name: str) -> str:
    """A name in Unicode's form NFC, without invisible characters and white space around it."""
    seen = (c for c in name if unicodedata.category(c) != "Cf" or c in JOINERS)
    return unicodedata.normalize("NFC", "".join(seen)).strip()


@lru_cache(REMEMBERED)
def likeness(name: str) -> str:
    """What is left of a name for a hasty reader or a spreadsheet.

    Names are alike that differ only in case; in white space, `_` and dashes (between a letter and a
    digit also in whether there is any); in leading zeros; as `1` and `1.0`; in wide letters, or in
    Cyrillic and Greek ones that are drawn as Latin ones; in invisible characters.
    """
    text = unicodedata.normalize("NFKC", plain(name)).casefold().translate(DRAWN_ALIKE)
    text = "".join(c for c in text if c not in JOINERS)
    number = FLOAT.fullmatch(text)
    text = LETTER_DIGIT.sub(" ", number[1] if number else text)
    return LEADING_ZEROS.sub("", SEPARATORS.sub(" ", text).strip())


@lru_cache(REMEMBERED)
def is_unknown(name: str) -> bool:
    """Whether a cell of a table says that there is no name: empty, `nan`, `N/A`, `unknown`, `?`,
    `-` and the like.
    """
    words = re.sub(r"[^\w.]+|_+", " ", plain(name).casefold()).strip(" .")
    return words in UNKNOWN or not any(c.isalnum() for c in words)


def lookalikes(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The different names that look alike, set by set, each sorted."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in names:
        found[likeness(name)].add(name)
    return sorted(tuple(sorted(alike)) for alike in found.values() if len(alike) > 1)


def spelled(name: str) -> str:
    """A name in quotes; one that is not ASCII also by its characters, for others may look so."""
    return repr(name) if name.isascii() else f"{name!r} ({name!a})"
