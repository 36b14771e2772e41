"""The floors of the house: a room imports only from floors below it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import cellkin
from cellkin.cli.main import app
from cellkin.core.records import Dataset

FLOORS = {
    "core": 0,
    "imaging": 1,
    "decision": 1,
    "measures": 1,
    "printed": 1,
    "report": 1,
    "datasets": 2,
    "drawing": 3,
    "learning": 3,
    "smear": 4,
    "atlas": 4,
    "evidence": 5,
    "system": 6,
    "study": 7,
    "proving": 7,
    "web": 8,
    "cli": 9,
}
BANNED = {
    "core": {"torch", "PIL", "matplotlib", "pickle"},
    "imaging": {"torch", "random", "matplotlib"},
    "decision": {"torch", "PIL", "cv2", "matplotlib"},
    "measures": {"torch", "PIL", "cv2", "matplotlib"},
    "printed": {"torch", "PIL", "cv2", "matplotlib"},
    "report": {"torch", "timm", "faiss"},
    "drawing": {"torch", "timm"},
    "datasets": {"torch", "timm"},
    "learning": {"matplotlib", "pickle"},
    "smear": {"matplotlib", "pickle"},
    "atlas": {"pickle", "matplotlib"},
    "evidence": {"matplotlib", "torch.nn"},
    "web": {"torch", "timm", "faiss", "matplotlib", "pickle"},
    "cli": {"torch", "timm", "faiss"},
}
ROOT = Path(cellkin.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def faults(path: Path, names: list[str]) -> list[str]:
    own = room(path)
    found = []
    for name in names:
        parts = name.split(".")
        if parts[0] == "cellkin" and len(parts) > 1 and parts[1] in FLOORS and parts[1] != own:
            if FLOORS[parts[1]] >= FLOORS[own]:
                found.append(f"{own} (floor {FLOORS[own]}) imports {name}")
        elif parts[0] in BANNED.get(own, set()) or name in BANNED.get(own, set()):
            found.append(f"{own} must never import {name}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_from_floors_below(path: Path) -> None:
    assert room(path) in FLOORS, "a new room needs a floor, here and in docs"
    assert faults(path, list(imports(path))) == []


def test_the_architecture_page_draws_these_floors() -> None:
    page = ROOT.parents[1] / "docs" / "architecture.md"
    drawn = re.findall(r"^\| (\d) \| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: int(floor) for floor, name in drawn} == FLOORS


def known_modules() -> dict[str, Path]:
    named = {}
    for path in FILES:
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """What remains when modules that import nothing of the rest are taken away, again and again."""
    left = {name: set(targets) for name, targets in arrows.items()}
    while leaves := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets - leaves for name, targets in left.items() if name not in leaves}
    return [sorted(left)] if left else []


def test_no_module_imports_itself_by_a_detour() -> None:
    """Imports inside functions count as well. A package's `__init__` gathers what lies in it."""
    known = known_modules()
    arrows = {
        name: {module for module in imports(path) if module in known} - {name}
        for name, path in known.items()
        if path.name != "__init__.py"
    }
    assert circles(arrows) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["a", "b", "c", "d"]]


def test_the_walk_finds_a_violation(tmp_path: Path) -> None:
    bad = ROOT / "decision" / "imaginary.py"
    assert faults(bad, ["cellkin.atlas.atlas"]) == [
        "decision (floor 1) imports cellkin.atlas.atlas"
    ]
    assert faults(bad, ["cellkin.report"]) == ["decision (floor 1) imports cellkin.report"]
    assert faults(bad, ["torch"]) == ["decision must never import torch"]
    assert faults(bad, ["cellkin.core.records"]) == []


def test_files_stay_readable() -> None:
    long = {
        str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 420
    }
    assert long == {}


LEARNS = {"torch", "timm", "torchvision", "pytorch_metric_learning", "faiss"}
HEAVY = {*LEARNS, "openTSNE", "sklearn", "scipy", "matplotlib", "pandas", "fastapi", "sqlalchemy"}
RUN = """
import sys
from cellkin.cli.main import main
for arguments in {runs}:
    sys.argv = ["cellkin", *arguments]
    try:
        main()
    except SystemExit as done:
        assert not done.code, (arguments, done.code)
"""
ROW = ["--class", "a=13", "--class", "b=13", "--positive", "a", "--accuracy", "96.15+-3.85"]


def loaded(code: str) -> set[str]:
    """The packages of HEAVY that a fresh interpreter has imported after this code."""
    code += f"\nimport sys; print(*sorted({HEAVY} & set(sys.modules)), sep=',')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(filter(None, done.stdout.splitlines()[-1].split(",")))


@pytest.mark.parametrize("verb", ["--help", "check", "audit-table", "every --help"])
def test_import_is_light(verb: str, smears: Dataset) -> None:
    """Verbs that learn nothing and decide nothing start at once."""
    helps = [[name, "--help"] for name in typer.main.get_command(app).commands]  # type: ignore[attr-defined]
    runs = {
        "--help": [["--help"]],
        "check": [["check", str(smears.root)]],
        "audit-table": [["audit-table", *ROW]],
        "every --help": helps,
    }[verb]
    assert loaded(RUN.format(runs=runs)) == set()


def test_the_workstation_starts_without_what_only_maps_and_pictures_need() -> None:
    found = loaded("import cellkin.system, cellkin.web.app")
    assert found == {"faiss", "fastapi", "sqlalchemy"}


ATLAS_FILES = (
    *("atlas.json", "facts.json", "features.safetensors", "maps.safetensors", "cells.sqlite"),
    *("split.json", "predictions.json", "verification.json", "model_card", "encoder.json"),
)


def test_the_workstation_asks_the_atlas_and_spells_none_of_its_files() -> None:
    web = [p for p in FILES if room(p) == "web"]
    named = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in web
        for name in ATLAS_FILES
        if name in path.read_text(encoding="utf-8")
    }
    assert named == set()


@pytest.mark.parametrize("name", ["Case", "Page"])
def test_one_meaning_each(name: str) -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FILES]
    classes = [node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert classes.count(name) == 1
