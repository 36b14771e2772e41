"""What a long search has found so far, one line per field, so that a stopped one can go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cellkin.core.artifacts import digest, guarded_writes
from cellkin.core.errors import OutputError
from cellkin.datasets.locating.matching import Hit


class Notebook:
    """Answers to one question, noted as they come.

    Args:
        path: the file, or None to note nothing. A file that is there is read.
        question: plain data that says what is sought; answers to another question are refused.

    Raises:
        OutputError: the file holds answers to another question, is no notebook, or cannot be
            written.
    """

    def __init__(self, path: Path | None, question: object) -> None:
        self._path = path
        self._key = digest(question)
        self._known: dict[tuple[str, str], list[Hit]] = {}
        if path is not None and path.exists():
            self._load(path)
        elif path is not None:
            with guarded_writes(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"search": self._key}) + "\n", encoding="utf-8")

    def read(self, how: str, field: str) -> list[Hit] | None:
        """What was found in a field in one way of searching; None if that is not known yet."""
        return self._known.get((how, field))

    def write(self, how: str, field: str, hits: Sequence[Hit]) -> None:
        """Note a field's answer."""
        if self._path is None:
            return
        line = json.dumps({"how": how, "field": field, "hits": [asdict(hit) for hit in hits]})
        with guarded_writes(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def close(self) -> None:
        """All is done: remove the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _load(self, path: Path) -> None:
        head, *lines = path.read_text(encoding="utf-8").split("\n")
        try:
            key = json.loads(head)["search"]
        except (ValueError, KeyError, TypeError):
            key = None
        if key != self._key:
            raise OutputError(
                "an unfinished search for something else lies here",
                where=path,
                mend="remove it, or choose another --out",
            )
        for line in lines[:-1]:  # the last one was cut off, or is empty
            answer = json.loads(line)
            hits = [Hit(**hit) for hit in answer["hits"]]
            self._known[answer["how"], answer["field"]] = hits
        with guarded_writes(path):
            path.write_text("\n".join([head, *lines[:-1], ""]), encoding="utf-8")
