"""Records to pictures and pages: what is said, what is drawn, and what must never happen."""

from __future__ import annotations

import base64
import io
import json
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from cellkin import report
from cellkin.core import artifacts
from cellkin.core.errors import OutputError
from cellkin.core.numbers import number
from cellkin.core.records import (
    LYMPHOBLAST,
    NO_CELL,
    NOTICE,
    OTHER_CELL,
    Decision,
    Evidence,
    Heatmap,
    LabelSet,
    Neighbor,
    PairMap,
    Provenance,
)
from cellkin.report import (
    DecisionRow,
    curves,
    facts,
    figures,
    heatmaps,
    pages,
    paper,
    scatter,
    words,
)
from cellkin.report.first_line import sureness_json

BLASTS = LabelSet(
    ("nothing", "normal", "monocyte", "lymphoblast (1)", "lymphoblast (2)"),
    {
        "nothing": NO_CELL,
        "normal": OTHER_CELL,
        "monocyte": OTHER_CELL,
        "lymphoblast (1)": LYMPHOBLAST,
        "lymphoblast (2)": LYMPHOBLAST,
    },
)
PBC = LabelSet(
    ("basophil", "eosinophil", "ig"),
    dict.fromkeys(("basophil", "eosinophil", "ig"), OTHER_CELL),
    {"ig": "immature granulocyte"},
)
FIGURES = (
    figures.neighbors_figure,
    figures.contrast_figure,
    figures.grad_cam_figure,
    figures.metric_grad_cam_figure,
    figures.difference_figure,
    figures.map_figure,
)


def decision_of(labels: LabelSet, near: list[str], label: str, **changes: Any) -> Decision:
    """A decision for hand-written neighbours; what was voted is stated by the test."""
    neighbors = tuple(
        Neighbor(f"{name}/{i}.png", name, 0.5 + 0.12345 * i, i + 1, "S7" if i == 0 else None)
        for i, name in enumerate(near)
    )
    votes = {name: near.count(name) for name in labels.names if name in near}
    clinical = labels.clinical[label] if labels.positive else None
    side = [n for n in near if labels.is_positive(n) == labels.is_positive(label)]
    standing = side if labels.positive else [n for n in near if n == label]
    values: dict[str, Any] = {
        "query": "folder/cell.png",
        "label": label,
        "clinical": clinical,
        "votes": votes,
        "clinical_votes": None,
        "agreement": len(standing) / len(near),
        "mean_distance": 0.61234,
        "distance_percentile": 92.68,
        "calibration_cells": 41,
        "state": "decided",
        "tie": None,
        "neighbors": neighbors,
    }
    return Decision(**{**values, **changes})


def evidence_of(decision: Decision, labels: LabelSet, **changes: Any) -> Evidence:
    rng = np.random.default_rng(7)
    k = len(decision.neighbors)
    images = rng.integers(60, 220, (k + 1, 32, 32, 3)).astype(np.uint8)
    maps = rng.uniform(0.1, 1.0, (k + 1, 7, 7))
    ids = [n.id for n in decision.neighbors]
    others = [f"other-{i}" for i in range(40)]
    heat = [Heatmap(m, "grad-cam", "layer4", decision.label, "x") for m in maps]
    tensors = rng.normal(size=(k, 7, 7, 7, 7)).astype(np.float32)
    values: dict[str, Any] = {
        "decision": decision,
        "labels": labels,
        "query_image": images[0],
        "reference_images": tuple(images[1:]),
        "heatmap": heat[0],
        "heatmap_absent": "",
        "reference_heatmaps": tuple(heat[1:]),
        "pairs": tuple(
            PairMap("q", name, tensor, float(tensor.sum()), 2.5e-8)
            for name, tensor in zip(ids, tensors, strict=True)
        ),
        "pairs_absent": "",
        "atlas_ids": tuple(ids + others),
        "atlas_labels": tuple([n.label for n in decision.neighbors] + [labels.names[0]] * 40),
        "atlas_xy": rng.normal(size=(k + 40, 2)) * 10,
        "query_xy": np.array([1.0, 2.0]),
        "held_out_xy": rng.normal(size=(9, 2)),
        "held_out_labels": (labels.names[-1],) * 9,
        "provenance": Provenance("0.1.0", "w1", "a1", "paper", 3, "2026-01-02T03:04:05Z"),
        "atlas_facts": {"specimen": "bone marrow", "stain": "Wright", "k": k},
    }
    return Evidence(**{**values, **changes})


def basophil_evidence(**changes: Any) -> Evidence:
    decision = decision_of(PBC, ["basophil"] * 4 + ["ig"], "basophil")
    return evidence_of(decision, PBC, **changes)


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between tags outside of <style>."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] != "style":
            self.text.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def page_of(evidence: Evidence, folder: Path) -> tuple[str, Tags]:
    html = report.save(evidence, folder / "evidence.html").read_text(encoding="utf-8")
    return html, Tags(html)


# --- words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("near", "label", "head"),
    [
        (["lymphoblast (1)"] * 3 + ["lymphoblast (2)"] * 2, "lymphoblast (1)",
         "I call this cell a lymphoblast because 5 of its 5 closest kin are lymphoblasts."),
        (["lymphoblast (1)"], "lymphoblast (1)",
         "I call this cell a lymphoblast because its closest kin is a lymphoblast."),
        (["monocyte"] * 2 + ["lymphoblast (2)"], "monocyte",
         "I call this cell a monocyte because 2 of its 3 closest kin are monocytes."),
        (["normal"] * 3, "normal",
         "I call this cell “normal” because 3 of its 3 closest kin are “normal”."),
        (["monocyte"] * 2 + ["normal", "lymphoblast (1)"], "monocyte",
         "I call this cell a monocyte because 3 of its 4 closest kin are no lymphoblasts, "
         "and 2 of these are monocytes."),
        (["nothing"] * 3, "nothing",
         "I see no white blood cell in this image because 3 of its 3 closest kin show none."),
    ],
)  # fmt: skip
def test_the_verdict_says_who_voted(near: list[str], label: str, head: str) -> None:
    assert words.verdict(decision_of(BLASTS, near, label), BLASTS)[0] == head


def test_without_lymphoblasts_the_verdict_excludes_none() -> None:
    said = words.verdict(decision_of(PBC, ["ig"] * 4 + ["eosinophil"], "ig"), PBC)
    assert said[0] == (
        "I call this cell an immature granulocyte because "
        "4 of its 5 closest kin are immature granulocytes."
    )
    assert said[1:] == (
        "Against it: 1 eosinophil.",
        "This atlas knows no lymphoblasts and cannot exclude one.",
    )


def test_ties_are_named_with_their_rule() -> None:
    near = ["lymphoblast (1)", "lymphoblast (2)", "normal", "normal"]
    tied = decision_of(BLASTS, near, "lymphoblast (1)", state="tied", tie="clinical")
    said = words.verdict(tied, BLASTS)
    assert "2 of its 4 closest kin are lymphoblasts" in said[0]
    assert said[1] == (
        "The vote was tied: 2 of the kin are lymphoblasts, 2 not. "
        "A tie goes to the smaller mean distance."
    )
    assert said[2] == "Against it: 2 “normal”."
    fine = decision_of(BLASTS, near[:2], "lymphoblast (2)", state="tied", tie="label")
    assert words.verdict(fine, BLASTS)[1].startswith(
        "The vote between “lymphoblast (1)” and “lymphoblast (2)” was tied, 1 each."
    )


def test_percentile_in_words() -> None:
    known = decision_of(PBC, ["ig"] * 3, "ig")
    assert words.percentile_words(known) == (
        "farther from its kin than 93 % of 41 held-out cells of this class"
    )
    unknown = replace(known, distance_percentile=None, calibration_cells=0)
    assert words.percentile_words(unknown) == ("no percentile: no calibration cell of this class")


# --- heatmaps ---------------------------------------------------------------------------------


def test_signed_limits_are_symmetric_and_zero_is_neutral() -> None:
    scale = heatmaps.shared_scale([np.array([[0.2, -3.0]]), np.array([[1.0]])], signed=True)
    assert (scale.low, scale.limit) == (-3.0, 3.0)
    assert scale.ticks() == (-3.0, -1.5, 0.0, 1.5, 3.0)
    rgb, opacity = scale.colors(np.array([-3.0, 0.0, 3.0]))
    assert opacity[1] == 0 < opacity[0] == opacity[2] < 0.7
    assert rgb[0][2] > rgb[0][0]
    assert rgb[2][0] > rgb[2][2]
    assert np.ptp(rgb[1]) < 3


def test_a_negative_value_never_hides_in_an_unsigned_scale() -> None:
    assert heatmaps.shared_scale([np.array([[1.0, -0.1]])]).signed
    assert not heatmaps.shared_scale([np.array([[1.0, 0.0]])]).signed


@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_opacity_grows_with_the_value(a: float, b: float) -> None:
    low, high = sorted((a, b))
    _, opacity = heatmaps.Scale(1.0, True).colors(np.array([low, high, -low, -high]))
    assert opacity[0] <= opacity[1]
    assert opacity[0] == pytest.approx(opacity[2])
    assert opacity[1] == pytest.approx(opacity[3])


def test_a_weak_map_stays_weak_beside_a_strong_one() -> None:
    image = np.full((64, 64, 3), 200, np.uint8)
    bump = np.zeros((7, 7))
    bump[3, 3] = 1.0
    scale = heatmaps.shared_scale([bump, 0.01 * bump])
    strong, weak, empty = (
        heatmaps.overlay(image, values, scale, 64).astype(int)
        for values in (bump, 0.01 * bump, 0 * bump)
    )
    assert np.abs(strong - 200).max() > 60
    assert 0 < np.abs(weak - 200).max() < 15
    assert (empty == 200).all()


def test_the_overlay_lies_where_the_map_is_strong() -> None:
    image = np.full((224, 224, 3), 200, np.uint8)
    values = np.zeros((7, 7))
    values[1, 5] = 1.0
    drawn = heatmaps.overlay(image, values, heatmaps.shared_scale([values]), 224)
    rows, columns = np.nonzero(np.abs(drawn.astype(int) - 200).sum(axis=2) > 60)
    assert rows.mean() == pytest.approx(1.5 * 32, abs=4)
    assert columns.mean() == pytest.approx(5.5 * 32, abs=4)


def test_interpolation_invents_no_extreme() -> None:
    values = np.random.default_rng(1).choice([0.0, 1.0], (7, 7))
    smooth = heatmaps._smooth(values, 100)
    assert smooth.min() >= 0
    assert smooth.max() <= 1


def test_a_map_of_no_numbers_is_not_drawn_but_said() -> None:
    image = np.full((32, 32, 3), 90, np.uint8)
    values = np.array([[np.nan, 1.0], [0.0, 2.0]])
    scale = heatmaps.shared_scale([values])
    assert scale.limit == 2.0
    assert (heatmaps.overlay(image, values, scale, 32) == 90).all()
    assert heatmaps.status(values) == heatmaps.UNDEFINED


def test_the_color_bar_runs_from_low_to_high() -> None:
    bar = heatmaps.color_bar(heatmaps.Scale(2.0, True), width=101, height=4)
    assert bar.shape == (4, 101, 3)
    assert bar[0, 0, 2] > bar[0, 0, 0]
    assert bar[0, -1, 0] > bar[0, -1, 2]
    assert np.abs(bar[0, 50].astype(int) - 245).max() <= 1


# --- the evidence page --------------------------------------------------------------------------


def test_the_page_says_everything_that_it_must(tmp_path: Path) -> None:
    html, tags = page_of(basophil_evidence(), tmp_path)
    said = tags.words()
    for wanted in (
        "I call this cell a basophil because 4 of its 5 closest kin are basophils.",
        "This atlas knows no lymphoblasts and cannot exclude one.",
        "Against it: 1 immature granulocyte.", "4 of 5 (80 %)", "0.612", "0.500", "0.994",
        "subject S7", "farther from its kin than 93 % of 41 held-out cells of this class",
        "bone marrow", "Wright", "2026-01-02T03:04:05Z", "completeness error", "2.5 × 10⁻⁸",
        "folder/cell.png", "t-SNE of 45 reference cells with 9 held-out cells",
    ):  # fmt: skip
        assert wanted in said
    assert said.count(NOTICE) == 2
    assert "Drawn cells" not in said
    assert html.startswith("<!DOCTYPE html>")


def test_every_image_is_in_the_page_and_has_words(tmp_path: Path) -> None:
    _, tags = page_of(basophil_evidence(), tmp_path)
    images = [attrs for tag, attrs in tags.found if tag == "img"]
    assert len(images) == 6 + 6 + 10 + 2  # kin, Grad-CAM, pairs, two colour bars
    for attrs in images:
        assert attrs["alt"]
        kind, data = (attrs["src"] or "").split(";base64,")
        assert kind in ("data:image/png", "data:image/jpeg")
        Image.open(io.BytesIO(base64.b64decode(data))).load()


def test_the_query_image_is_the_very_array(tmp_path: Path) -> None:
    evidence = basophil_evidence()
    _, tags = page_of(evidence, tmp_path)
    first = next(attrs["src"] or "" for tag, attrs in tags.found if tag == "img")
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(first.split(",")[1]))))
    assert np.array_equal(drawn, evidence.query_image)


def assert_whole_in_itself(html: str) -> None:
    tags = Tags(html)
    for tag, attrs in tags.found:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            target = attrs.get(name)
            assert target is None or not re.match(r"\s*(\w+:)?//|\s*javascript:", target)
    assert "url(" not in html
    assert "@import" not in html
    policy = [a["content"] for t, a in tags.found if a.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    html, _ = page_of(basophil_evidence(), tmp_path)
    assert_whole_in_itself(html)


NASTY = '<script>alert("1")<script>&<img src=x onerror=alert(1)>\'{{ 7*7 }}'


def test_every_text_is_escaped(tmp_path: Path) -> None:
    labels = LabelSet((NASTY, "b"), {NASTY: OTHER_CELL, "b": OTHER_CELL}, {NASTY: f"title {NASTY}"})
    decision = decision_of(labels, [NASTY, NASTY, "b"], NASTY, query=NASTY)
    neighbors = tuple(replace(n, id=f"{n.id}{NASTY}", subject=NASTY) for n in decision.neighbors)
    evidence = evidence_of(
        replace(decision, neighbors=neighbors),
        labels,
        heatmap=None,
        heatmap_absent=NASTY,
        pairs=(),
        pairs_absent=NASTY,
        atlas_facts={"specimen": NASTY, "stain": NASTY, NASTY: {NASTY: NASTY}},
        provenance=Provenance(*[NASTY] * 4, 0, NASTY, NASTY, NASTY),
    )
    html, tags = page_of(evidence, tmp_path)
    assert_whole_in_itself(html)
    assert "<script" not in html
    assert html.count("<img") == 4  # the query and its kin, no other
    assert NASTY in " ".join(tags.text)


def test_absent_heatmaps_give_their_reason(tmp_path: Path) -> None:
    evidence = basophil_evidence(
        heatmap=None,
        heatmap_absent="the head knows other classes",
        reference_heatmaps=(),
        pairs=(),
        pairs_absent="a class token has no exact form",
    )
    _, tags = page_of(evidence, tmp_path)
    said = tags.words()
    assert "Not available: the head knows other classes" in said
    assert "Not available: a class token has no exact form" in said
    assert len([tag for tag, _ in tags.found if tag == "img"]) == 6


def test_a_query_that_is_a_reference_cell_is_said(tmp_path: Path) -> None:
    evidence = basophil_evidence()
    said = "this very image: its own label voted"
    assert said not in page_of(evidence, tmp_path)[0]
    images = (evidence.query_image, *evidence.reference_images[1:])
    assert page_of(replace(evidence, reference_images=images), tmp_path)[0].count(said) == 1


def test_an_empty_map_is_said_to_be_empty(tmp_path: Path) -> None:
    evidence = basophil_evidence()
    nothing = Heatmap(np.zeros((7, 7)), "grad-cam", "layer4", "basophil", "x")
    _, tags = page_of(replace(evidence, heatmap=nothing), tmp_path)
    assert tags.words().count(heatmaps.EMPTY) == 1
    _, tags = page_of(
        replace(evidence, heatmap=nothing, reference_heatmaps=(nothing,) * 5), tmp_path
    )
    assert tags.words().count(heatmaps.EMPTY) == 6
    assert "Every map of this row is empty" in tags.words()


def test_color_bars_carry_the_shared_limits(tmp_path: Path) -> None:
    evidence = basophil_evidence()
    _, tags = page_of(evidence, tmp_path)
    alts = [a["alt"] or "" for t, a in tags.found if t == "img" and "Colour bar" in str(a["alt"])]
    heats = [evidence.heatmap, *evidence.reference_heatmaps]
    top = number(max(float(h.values.max()) for h in heats if h), 2)
    assert alts[0] == f"Colour bar from 0 to {top}"
    each = [m for p in evidence.pairs for m in (p.on_query(), p.on_reference())]
    limit = number(max(float(np.abs(m).max()) for m in each), 2)
    assert alts[1] == f"Colour bar from −{limit} to {limit}"


def test_drawn_cells_and_an_unknown_specimen_are_said(tmp_path: Path) -> None:
    evidence = basophil_evidence(atlas_facts={"specimen": None})
    evidence = replace(evidence, provenance=replace(evidence.provenance, drawn=True))
    _, tags = page_of(evidence, tmp_path)
    assert "Drawn cells: synthetic, no real blood" in tags.words()
    assert "specimen not stated" in tags.words()
    assert "stain not stated" in tags.words()


def test_dark_print_and_narrow_layouts_are_there(tmp_path: Path) -> None:
    html, _ = page_of(basophil_evidence(), tmp_path)
    for rule in ("@media screen and (prefers-color-scheme:dark)", "@media print",
                 "@media screen and (max-width:520px)", "page-break-inside:avoid"):  # fmt: skip
        assert rule in html


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("theme", [0, 1])
def test_text_has_the_contrast_of_wcag_aa(theme: int) -> None:
    style = (Path(pages.__file__).parent / "templates" / "style.css").read_text()
    root = re.findall(r":root\{([^}]*)\}", style)[theme]
    color = dict(re.findall(r"--([\w-]+):(#\w+)", root))
    color = {k: "#" + "".join(c * 2 for c in v[1:]) if len(v) == 4 else v for k, v in color.items()}
    on = {"ground": ("ink", "muted", "accent", "warn"), "notice": ("notice-ink",),
          "card": ("ink", "muted", "accent", "right", "wrong", "warn")}  # fmt: skip
    for ground, inks in on.items():
        for ink in inks:
            pair = sorted((luminance(color[ground]), luminance(color[ink])))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (ground, ink)


def test_a_file_name_that_is_no_utf8_still_gives_a_page(tmp_path: Path) -> None:
    decision = decision_of(PBC, ["ig"] * 3, "ig", query="cell\udcff.png")
    assert "cell?.png" in page_of(evidence_of(decision, PBC), tmp_path)[1].words()


# --- files ---------------------------------------------------------------------------------------


def test_save_all_writes_every_file_and_nothing_else(tmp_path: Path) -> None:
    evidence = basophil_evidence()
    written = report.save_all(evidence, tmp_path / "out")
    names = ["evidence.html", "evidence.json", "neighbors.png", "contrast.png", "grad_cam.png",
             "metric_grad_cam.png", "difference.png", "map.png"]  # fmt: skip
    assert [path.name for path in written] == names
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names)
    first = sureness_json(evidence.decision, evidence.labels)
    assert json.loads(written[1].read_text(encoding="utf-8")) == json.loads(
        json.dumps({**evidence.to_json(), **first})
    )
    for path in written[2:]:
        with Image.open(path) as picture:
            assert "Software" not in picture.info
            assert min(picture.size) > 200


def test_the_same_evidence_gives_the_same_bytes(tmp_path: Path) -> None:
    decision = decision_of(PBC, ["ig"], "ig")
    first, second = (
        report.save_all(evidence_of(decision, PBC), tmp_path / name) for name in ("one", "two")
    )
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_failed_write_leaves_the_old_page_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = report.save(basophil_evidence(), tmp_path / "evidence.html")
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(artifacts.os, "replace", refuse)
    with pytest.raises(OutputError, match="no permission"):
        report.save(basophil_evidence(atlas_facts={}), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["evidence.html"]


def test_a_write_that_stops_half_way_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vectors.safetensors"

    def stop_half_way() -> None:
        with artifacts.replacing(path) as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_half_way()
    assert not list(tmp_path.iterdir())
    with artifacts.replacing(path) as part:
        part.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_folder_in_place_of_a_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="a folder, not a file"):
        report.save(basophil_evidence(), tmp_path)


# --- the map ------------------------------------------------------------------------------------


def test_the_map_keeps_shape_and_order() -> None:
    evidence = basophil_evidence()
    view = scatter.map_view(evidence, 640, 500)
    drawn = np.array([k.xy for k in view.kin] + [view.query])
    xy = np.concatenate([evidence.atlas_xy[:5], evidence.query_xy[None]])
    factor = (drawn[:, 0] - drawn[0, 0])[1:] / (xy[:, 0] - xy[0, 0])[1:]
    assert factor == pytest.approx(np.full(5, factor[0]))
    assert -(drawn[:, 1] - drawn[0, 1]) == pytest.approx(factor[0] * (xy[:, 1] - xy[0, 1]))
    assert factor[0] > 0
    points = np.concatenate([p.xy for p in view.references])
    assert len(points) == 45
    assert (points > 0).all()
    assert (points < [640, 500]).all()


def test_the_closeup_holds_the_query_and_all_kin_and_numbers_do_not_collide() -> None:
    evidence = basophil_evidence()
    same = np.tile(evidence.query_xy, (len(evidence.atlas_ids), 1))
    for xy in (evidence.atlas_xy, same):
        view = scatter.map_view(replace(evidence, atlas_xy=xy), 340, 340, closeup=True)
        numbers = np.array([k.number_xy for k in view.kin])
        for place in [view.query, *(k.xy for k in view.kin), *numbers]:
            assert 0 < place[0] < 340
            assert 0 < place[1] < 340
        gaps = np.linalg.norm(numbers[:, None] - numbers[None], axis=2)[np.triu_indices(5, 1)]
        assert gaps.min() > 12


def test_fifty_six_classes_are_drawn_differently() -> None:
    assert len({scatter.style(i) for i in range(56)}) == 56


@pytest.mark.parametrize("marker", scatter.MARKERS)
def test_every_marker_is_drawn_around_its_point(marker: str) -> None:
    path = scatter.marker_path(np.array([[50.0, 80.0], [10.0, 10.0]]), marker, 4.0)
    assert path.count("M") == path.count("z") == 2
    start = [float(v) for v in path[1:].split("l")[0].split("a")[0].split(",")]
    assert np.linalg.norm(np.array(start) - [50, 80]) < 7


def test_an_atlas_without_held_out_cells_has_no_such_entry(tmp_path: Path) -> None:
    evidence = basophil_evidence(held_out_xy=np.zeros((0, 2)), held_out_labels=())
    assert "held-out cells, in the colour" not in page_of(evidence, tmp_path)[1].words()
    assert isinstance(figures.map_figure(evidence), Figure)


# --- figures ------------------------------------------------------------------------------------


def texts(figure: Figure) -> str:
    found = [t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text"))]
    return "\n".join(found)


@pytest.mark.parametrize("draw", FIGURES)
@pytest.mark.parametrize("k", [1, 3, 8])
def test_figures_draw_for_any_k(draw: Any, k: int) -> None:
    decision = decision_of(BLASTS, ["normal"] * k, "normal")
    figure = draw(evidence_of(decision, BLASTS))
    figure.canvas.draw()
    assert NOTICE in texts(figure)


def test_figures_leave_no_global_state() -> None:
    import matplotlib
    from matplotlib._pylab_helpers import Gcf

    before = dict(matplotlib.rcParams)
    for draw in FIGURES:
        draw(basophil_evidence())
    assert not Gcf.get_all_fig_managers()
    assert dict(matplotlib.rcParams) == before


def test_figures_say_distance_similarity_and_absence() -> None:
    evidence = basophil_evidence()
    assert "distance 0.500\nsubject S7" in texts(figures.neighbors_figure(evidence))
    pair = evidence.pairs[0]
    assert f"similarity {number(pair.similarity)}" in texts(
        figures.metric_grad_cam_figure(evidence)
    )
    absent = replace(evidence, heatmap=None, heatmap_absent="no head", pairs=(), pairs_absent="vit")
    assert "Not available: no head" in texts(figures.grad_cam_figure(absent))
    assert "Not available: vit" in texts(figures.metric_grad_cam_figure(absent))


@pytest.mark.parametrize("draw", FIGURES)
def test_odd_class_names_are_drawn_as_text(draw: Any) -> None:
    odd = "a$b_{x}$ \\frac 淋巴 \n\t" + "long " * 30
    labels = LabelSet((odd, "b"), {odd: OTHER_CELL, "b": OTHER_CELL})
    decision = decision_of(labels, [odd] * 3, odd, query="q$x$淋.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(evidence_of(decision, labels)).canvas.draw()


# --- the training curve ---------------------------------------------------------------------------


def history_rows() -> list[dict[str, Any]]:
    warm = {"metric_loss": None, "orthogonality": None, "val_accuracy": None, "selected": False}
    rows: list[dict[str, Any]] = [
        {"epoch": i, "phase": "warm-up", "loss": 2.0 / i, "cross_entropy": 2.0 / i, "lr": 0.02}
        | warm
        for i in (1, 2)
    ]
    rows += [
        {"epoch": i, "phase": "fine-tuning", "loss": 1.0, "metric_loss": 0.0 if i > 4 else 0.5,
         "cross_entropy": 0.001, "orthogonality": 0.2, "val_accuracy": 0.9 + i / 100,
         "lr": 2e-4, "selected": i == 4}
        for i in (3, 4, 5)
    ]  # fmt: skip
    return rows


def test_the_training_curve_marks_the_chosen_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(curves, "write_figure", lambda figure, path: drawn.append(figure) or path)
    curves.training_curve(history_rows(), tmp_path / "t.png")
    losses, vote = drawn[0].axes
    assert "chosen: epoch 4\n94.0 %" in [h.get_label() for h in vote.get_lines()]
    line = next(h for h in vote.get_lines() if h.get_label() == "validation")
    assert line.get_ydata() == pytest.approx([93, 94, 95])
    total = next(h for h in losses.get_lines() if h.get_label() == "total")
    assert total.get_ydata() == pytest.approx([2, 1, 1, 1, 1])
    assert losses.get_yscale() == "log"


@pytest.mark.parametrize("rows", [history_rows(), history_rows()[:1], history_rows()[3:4]])
def test_the_training_curve_is_a_picture(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    path = report.training_curve(rows, tmp_path / "curve.png")
    again = report.training_curve(rows, tmp_path / "again.png")
    assert path.read_bytes() == again.read_bytes()
    with Image.open(path) as picture:
        assert picture.format == "PNG"


def test_epochs_that_start_again_are_counted_on() -> None:
    rows = [{"epoch": 1}, {"epoch": 2}, {"epoch": 1}]
    assert curves._epochs(rows).tolist() == [1, 2, 3]
    assert curves._epochs([{"epoch": 3}, {"epoch": 7}]).tolist() == [3, 7]


def test_no_history_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no history"):
        report.training_curve([], tmp_path / "t.png")


# --- the overview ---------------------------------------------------------------------------------

TEST = {
    "n": 40,
    "correct": 39,
    "accuracy": 0.975,
    "balanced_accuracy": 0.97,
    "interval": {"low": 0.871, "high": 0.9956, "method": "Wilson over cells", "note": ""},
    "per_class": {
        "basophil": {"n": 20, "correct": 19, "recall": 0.95,
                     "interval": {"low": 0.764, "high": 0.991, "method": "Wilson", "level": 0.95}},
        "ig": {"n": 20, "correct": 20, "recall": 1.0, "interval": None},
        "eosinophil": {"n": 0, "correct": 0, "recall": None, "interval": None},
    },
    "sensitivity": None,
    "specificity": None,
}  # fmt: skip


def table_rows() -> list[DecisionRow]:
    image = np.full((50, 50, 3), 128, np.uint8)
    near = decision_of(PBC, ["ig"] * 5, "ig", query=NASTY)
    return [
        DecisionRow(image, near, "ig", "cells/a b#<x>.html"),
        DecisionRow(image, near, "basophil", "javascript:alert(1)"),
        DecisionRow(image, near, None, None),
    ]


def table_of(labels: LabelSet, rows: list[DecisionRow], folder: Path, **more: Any) -> Tags:
    provenance = Provenance("0.1.0", "w", "a", "demo", 0, "2026-01-01T00:00:00Z", drawn=True)
    known = {"specimen": "peripheral blood", "cells": 120, **more}
    path = report.save_table("Cells <b>", rows, labels, known, provenance, folder / "t.html")
    html = path.read_text(encoding="utf-8")
    assert_whole_in_itself(html)
    return Tags(html)


def test_the_overview_says_right_wrong_and_the_numbers(tmp_path: Path) -> None:
    tags = table_of(PBC, table_rows(), tmp_path, test=TEST)
    said = tags.words()
    for wanted in (
        "Cells <b>", "3 cells: 1 of 2 right", "✓ right",
        "✗ wrong: labelled basophil",
        "97.5 % (39 of 40 cells); interval: 87.1 to 99.6 % (Wilson over cells)",
        "76.4 to 99.1 % (95 %, Wilson)", "no test cell", "5 of 5 (100 %)", "0.612",
        "not available: this atlas knows no lymphoblasts", "Drawn cells", NOTICE,
        "This atlas knows no lymphoblasts and cannot exclude one.",
    ):  # fmt: skip
        assert wanted in said


def test_links_are_relative_paths_only(tmp_path: Path) -> None:
    tags = table_of(PBC, table_rows(), tmp_path)
    links = [attrs["href"] for tag, attrs in tags.found if tag == "a"]
    assert links == ["cells/a%20b%23%3Cx%3E.html", "javascript%3Aalert%281%29"]


def test_imaging_groups_of_lymphoblasts_are_one_class(tmp_path: Path) -> None:
    near = decision_of(BLASTS, ["lymphoblast (1)"] * 3, "lymphoblast (1)")
    image = np.zeros((20, 20, 3), np.uint8)
    rows = [DecisionRow(image, near, truth, None) for truth in ("lymphoblast (2)", "normal")]
    said = table_of(BLASTS, rows, tmp_path, test={}).words()
    assert "1 of 2 right" in said
    assert "cannot exclude one" not in said


def test_too_few_subjects_is_said_in_place_of_an_interval() -> None:
    none = {"low": None, "high": None, "method": "", "note": "too few subjects for an interval"}
    assert facts.interval_words(none) == "too few subjects for an interval"
    assert facts.interval_words(None) == "not available"


def test_facts_nobody_knows_are_shown_and_known_ones_named() -> None:
    told = {
        "specimen": "bone marrow",
        "classes": {"ig": 12},
        "calibration": {"ig": 3, "basophil": 2},
        "titles": {"ig": "immature granulocyte"},
        "split": {"train": 9, "test": 3, "unit": "subject", "seed": 4},
        "odd_thing": {"deep": [1, 2.5], "none": None},
        "flag": True,
    }
    rows = dict(facts.fact_rows(told, PBC))
    assert rows == {
        "Specimen": "bone marrow",
        "Stain": "not stated",
        "Reference cells by class": "immature granulocyte 12",
        "Calibration cells by class": "immature granulocyte 3, basophil 2",
        "Split": "train 9, test 3; by subject; seed 4",
        "Odd thing, deep": "1, 2.500",
        "Flag": "yes",
    }


# --- the figure of a paper -----------------------------------------------------------------------


def test_all_figures_on_one_page_at_300_dpi_and_as_svg(tmp_path: Path) -> None:
    evidence = basophil_evidence()
    written = paper.save_paper(evidence, tmp_path, dpi=60)
    assert paper.DPI == 300
    assert [path.name for path in written] == ["figure.png", "figure.svg"]
    with Image.open(written[0]) as picture:
        assert picture.width == round(60 * paper.WIDTH)
        grey = np.asarray(picture.convert("L"))
    assert (grey[-3:] == 255).all()  # nothing is cut off
    assert (grey[:, -3:] == 255).all()
    drawn = written[1].read_text(encoding="utf-8")
    assert drawn.startswith("<?xml")
    assert "<dc:date>" not in drawn


def test_the_query_is_the_largest_thing_on_the_page() -> None:
    figure = paper.paper_figure(basophil_evidence())
    width, height = figure.get_size_inches()
    sizes = [axes.get_position() for axes in figure.axes]
    areas = [box.width * width * box.height * height for box in sizes]
    assert areas[0] == max(areas)
    assert sorted(areas)[-2] < areas[0]
    for box in sizes:
        assert 0 <= box.x0 < box.x1 <= 1
        assert 0 <= box.y0 < box.y1 <= 1
