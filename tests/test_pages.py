"""The shells and static files of the pages, without a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from workstation import Workstation

from cellkin.core.records import NOTICE
from cellkin.web.pages import SHELLS
from cellkin.web.pages.routes import HERE, digest
from cellkin.web.worklist.held import REASONS, TILES

TEMPLATES = sorted((HERE / "templates").glob("*.j2"))
STATIC = sorted((HERE / "static").iterdir())


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.name)
def test_no_script_or_style_is_written_into_a_page(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"https?://", text)


@pytest.mark.parametrize("path", STATIC, ids=lambda p: p.name)
def test_static_files_fetch_nothing_from_elsewhere_and_take_no_markup(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'`]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)


def test_every_page_has_its_module_and_template() -> None:
    for page in SHELLS:
        assert (HERE / "static" / f"{page.name}.js").is_file()
        assert (HERE / "templates" / f"{page.name}.html.j2").is_file()


def test_a_shell_is_the_same_for_every_case_and_says_the_notice(web: Workstation) -> None:
    client = web.client("vera")
    one, other = client.get("/cases/abc").text, client.get("/cases/<script>").text
    assert one == other
    assert NOTICE in one


def test_static_files_are_kept_for_good_under_their_digest_alone(web: Workstation) -> None:
    client = web.client()
    kept = client.get(f"/static/{digest()}/style.css")
    old = client.get("/static/0123456789ab/style.css")
    assert kept.status_code == old.status_code == 200
    assert "immutable" in kept.headers["cache-control"]
    assert old.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "name", ["../routes.py", "..%2froutes.py", "nothing.css", "%2e%2e%2froutes.py", "style.css%00"]
)
def test_only_listed_files_are_static(web: Workstation, name: str) -> None:
    client = web.client()
    found = client.get(f"/static/{digest()}/{name}")
    assert found.status_code in (400, 401, 404)
    assert "APIRouter" not in found.text


def test_why_a_cell_is_held_is_worded_in_one_place(web: Workstation) -> None:
    sent = web.client().get(f"/static/{digest()}/held.js").text
    held = json.loads(sent.removeprefix("export const HELD = ").partition(";\n")[0])
    assert list(held) == list(REASONS) == list(TILES)
    assert held == {reason: [TILES[reason], words] for reason, words in REASONS.items()}
    scripts = "".join(path.read_text(encoding="utf-8") for path in STATIC)
    assert [words for words in REASONS.values() if words in scripts] == []
