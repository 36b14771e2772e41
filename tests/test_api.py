"""The API: from an upload to a signed report, and what happens when two do it at once."""

from __future__ import annotations

import base64
import io
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from workstation import Workstation, png, running, upload

from cellkin.core.records import LYMPHOBLAST
from cellkin.imaging.preprocess import Prepared
from cellkin.system import DecisionSupport
from cellkin.web.app import create_app
from cellkin.web.evidence import cell_address, evidence_json, tensor_text
from cellkin.web.example import PSEUDONYM, prepare_case
from cellkin.web.frames import Companion, Silent
from cellkin.web.model_thread import Deciding
from cellkin.web.remembering import Remembered
from cellkin.web.settings import Settings
from cellkin.web.store import Store

Plain = dict[str, Any]


def ok(answer: Any, status: int = 200) -> Plain:
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def cells_of(client: TestClient, case: str, **wanted: Any) -> list[Plain]:
    """All cells of a case, page by page."""
    found: list[Plain] = []
    cursor = None
    while True:
        params = {**wanted, **({"cursor": cursor} if cursor else {})}
        page = ok(client.get(f"/api/v1/cases/{case}/cells", params=params))
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found


# the whole way ------------------------------------------------------------------------------------


def test_from_upload_to_signed_report(web: Workstation) -> None:
    client = web.client("rolf")
    case = web.case(client, 5)
    where = f"/api/v1/cases/{case['id']}"
    early = client.post(f"{where}/sign", json={"version": case["version"]})
    assert early.status_code == 409
    assert early.json()["type"].endswith(":refused")
    assert early.json()["missing"]
    cells = cells_of(client, case["id"])
    case = ok(client.post(f"{where}/seen", json={"cells": [c["id"] for c in cells]}))
    for cell in cells:
        ok(client.get(f"/api/v1/cells/{cell['id']}/evidence"))
        ok(client.post(f"/api/v1/cells/{cell['id']}/opened"))
        review = {"version": case["version"], "label": cell["proposed"]}
        case = ok(client.post(f"/api/v1/cells/{cell['id']}/review", json=review))["case"]
    signed = ok(client.post(f"{where}/sign", json={"version": case["version"]}))
    assert (signed["status"], signed["signed_by"]) == ("signed", "rolf")
    late = {"version": signed["version"], "label": cells[0]["proposed"]}
    refused = client.post(f"/api/v1/cells/{cells[0]['id']}/review", json=late)
    assert refused.status_code == 409, "a signed case is read-only"
    page = client.get(f"{where}/report.html")
    assert page.status_code == 200
    assert "script-src" not in page.headers["content-security-policy"]
    assert "P-1" in page.text
    assert client.get(f"{where}/report.csv").text.count("\n") == 6
    assert ok(client.get(f"{where}/report.json"))["signed_by"] == "rolf"
    amended = ok(
        client.post(f"{where}/amend", json={"version": signed["version"], "reason": "one more"})
    )
    assert (amended["status"], amended["revision"]) == ("amended", 2)
    assert web.store.verify_log().faults == ()


def test_the_report_as_pdf(web: Workstation) -> None:
    pytest.importorskip("weasyprint", exc_type=(ImportError, OSError))  # type: ignore[arg-type]
    client = web.client("rolf")
    answer = client.get(f"/api/v1/cases/{web.case(client, 1)['id']}/report.pdf")
    assert answer.status_code == 200, answer.text
    assert answer.content.startswith(b"%PDF")
    assert answer.headers["content-disposition"].startswith("attachment")


def test_reclassify_undo_and_disposition(web: Workstation) -> None:
    client = web.client("rolf")
    case = web.case(client, 2)
    first = cells_of(client, case["id"])[0]
    where = f"/api/v1/cells/{first['id']}/review"
    bare = {"version": case["version"], "disposition": "artefact"}
    assert client.post(where, json=bare).status_code == 409, "it needs a reason"
    ok(client.post(f"/api/v1/cells/{first['id']}/opened"))
    done = ok(client.post(where, json={**bare, "reason": "a fold"}))
    assert (done["cell"]["disposition"], done["cell"]["final"]) == ("artefact", None)
    back = ok(
        client.post(f"/api/v1/cases/{case['id']}/undo", json={"version": done["case"]["version"]})
    )
    assert back["cells"][0]["state"] == "proposed"


def test_two_people_on_one_case(web: Workstation) -> None:
    rolf, rita = web.client("rolf"), web.client("rita")
    case = web.case(rolf, 2)
    first, second = cells_of(rolf, case["id"])
    for client, cell in ((rolf, first), (rita, second)):
        ok(client.post(f"/api/v1/cells/{cell['id']}/opened"))
    seen_by_both = {"version": case["version"]}
    done = ok(
        rolf.post(
            f"/api/v1/cells/{first['id']}/review",
            json={**seen_by_both, "label": first["proposed"]},
        )
    )
    late = rita.post(
        f"/api/v1/cells/{second['id']}/review",
        json={**seen_by_both, "label": second["proposed"]},
    )
    assert late.status_code == 409
    told = late.json()
    assert told["type"].endswith(":conflict")
    assert told["current"] == done["case"]
    again = {"version": told["current"]["version"], "label": second["proposed"]}
    ok(rita.post(f"/api/v1/cells/{second['id']}/review", json=again))
    stale = rita.patch(f"/api/v1/cases/{case['id']}", json={**seen_by_both, "note": "x"})
    assert stale.status_code == 409
    assert stale.json()["current"]["id"] == case["id"]


# uploading ----------------------------------------------------------------------------------------


def test_a_zip_and_files_and_what_is_no_image(web: Workstation) -> None:
    client = web.client("rolf")
    case = web.case(client)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in web.cells[:2]:
            archive.writestr(f"slide/{name}", data)
        archive.writestr("readme.txt", "no image")
    sent = [("cells.zip", buffer.getvalue()), web.cells[0], web.cells[2], ("grey.png", grey())]
    told = ok(upload(client, case["id"], sent), 201)
    assert len(told["added"]) == 3
    assert len(told["duplicates"]) == 1
    assert [(r["name"], bool(r["what"]), bool(r["mend"])) for r in told["refused"]] == [
        ("readme.txt", True, True),
        ("grey.png", True, True),
    ]
    assert told["case"]["cells"] == 3


def grey() -> bytes:
    return png(64, 64, (90, 90, 90))


def test_the_same_key_adds_nothing_twice(web: Workstation) -> None:
    client = web.client("rolf")
    case = web.case(client)["id"]
    first = ok(upload(client, case, web.cells[:3], key="k-1"), 201)
    again = ok(upload(client, case, web.cells[:3], key="k-1"), 201)
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert [c["id"] for c in again["added"]] == [c["id"] for c in first["added"]]
    assert len(cells_of(client, case)) == 3
    other = upload(client, case, web.cells[3:4], key="k-1")
    assert other.status_code == 409, "the key belongs to other images"
    without = ok(upload(client, case, web.cells[:3]), 201)
    assert (len(without["added"]), len(without["duplicates"])) == (0, 3)


def test_the_same_key_at_once_adds_once(web: Workstation) -> None:
    """Through one server with one loop, as it is in use."""
    clients = [web.client("rolf") for _ in range(4)]
    case = web.case(clients[0])["id"]
    with ExitStack() as stack:
        address = stack.enter_context(running(web.app))
        heads = [
            {"X-CSRF-Token": c.headers["X-CSRF-Token"], "Cookie": f"cellkin={c.cookies['cellkin']}"}
            for c in clients
        ]
        sent = [stack.enter_context(httpx.Client(base_url=address, headers=h)) for h in heads]
        pool = stack.enter_context(ThreadPoolExecutor(4))
        told = list(pool.map(lambda c: ok(upload(c, case, web.cells[:2], key="k"), 201), sent))
    assert sum(not one["replayed"] for one in told) == 1
    assert len({tuple(c["id"] for c in one["added"]) for one in told}) == 1
    assert len(cells_of(clients[0], case)) == 2


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\nnonsense"),
        ("multipart/form-data; boundary=b", b"--b--\r\n"),
        ("text/plain", b""),
    ],
)
def test_an_upload_that_is_none(web: Workstation, kind: str, content: bytes) -> None:
    client = web.client("rolf")
    case = web.case(client)["id"]
    answer = client.post(
        f"/api/v1/cases/{case}/cells", content=content, headers={"Content-Type": kind}
    )
    assert answer.status_code == 422
    assert answer.json()["mend"]


def test_an_image_that_hangs_the_decoder_refuses_the_upload(
    web: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    answered = threading.Event()

    def silent(self: object, head: dict[str, str], data: bytes, seconds: float) -> None:
        tried.append(head["name"])
        if len(tried) > 1:
            answered.wait(30)
        raise Silent(timed_out=True)

    client = web.client("rolf")
    case = web.case(client)["id"]
    monkeypatch.setattr(Companion, "ask", silent)
    answer = upload(client, case, web.cells[:10])
    answered.set()
    assert answer.status_code == 422
    assert answer.json()["where"] == web.cells[0][0]
    assert len(tried) <= 2, "each of them would cost its full time"
    assert cells_of(client, case) == []


def test_uploading_to_nowhere(web: Workstation) -> None:
    assert upload(web.client("rolf"), "nowhere", web.cells[:1]).status_code == 404


def test_pages_of_a_list_hold_everything_once(web: Workstation) -> None:
    client = web.client("rolf")
    case = web.case(client, 7)["id"]
    whole = [c["id"] for c in cells_of(client, case)]
    assert [c["id"] for c in cells_of(client, case, limit=2)] == whole
    assert len(set(whole)) == 7
    wrong = client.get(f"/api/v1/cases/{case}/cells", params={"cursor": "nonsense"})
    assert wrong.status_code in (409, 422)


# decisions ----------------------------------------------------------------------------------------


def test_decide_says_what_the_library_says(
    web: Workstation, support: DecisionSupport, tmp_path: Any
) -> None:
    client = web.client("vera")
    files = [("files", (name, data, "image/png")) for name, data in web.cells[:4]]
    told = ok(client.post("/api/v1/decide", files=files))
    paths = []
    for name, data in web.cells[:4]:
        (tmp_path / name).write_bytes(data)
        paths.append(tmp_path / name)
    for answer, decision in zip(told["decisions"], support.decide(paths), strict=True):
        wanted = decision.to_json()
        assert {**answer, "image": ""} == {**plain(wanted), "image": ""}
    assert ok(client.get("/api/v1/cases"))["items"] == [], "nothing is stored"


def plain(value: Any) -> Any:
    import json

    return json.loads(json.dumps(value))


def test_a_decision_does_not_depend_on_who_else_asks(
    support: DecisionSupport, web: Workstation
) -> None:
    """Alone, together, and among the requests of eight others."""
    decoders = web.app.state.station.decoders
    pictures = [decoders.prepare(data, name) for name, data in web.cells]
    alone = [support.decide(p) for p in pictures]
    deciding = Deciding(support)
    start = threading.Barrier(8)

    def ask(turn: int) -> list[Any]:
        order: list[Prepared] = pictures[turn:] + pictures[:turn]
        start.wait()
        found = [f.result() for f in deciding.decide(order)]
        return found[len(order) - turn :] + found[: len(order) - turn]

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(ask, range(8)):
            assert found == alone
    deciding.close()
    with pytest.raises(RuntimeError, match="shutting down"):
        deciding.decide(pictures[:1])


def test_a_workstation_warms_up_and_closes(
    support: DecisionSupport, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path / "store.sqlite")
    app = create_app(support, store, Settings(workers=1))
    seen: list[str] = []
    explain = Deciding.explain

    def noted(self: Deciding, picture: Any) -> Any:
        seen.append(picture.name)
        return explain(self, picture)

    monkeypatch.setattr(Deciding, "explain", noted)
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/healthz").json() == {"status": "ok"}
    assert seen == ["reference cell"]
    with pytest.raises(RuntimeError, match="shutting down"):
        app.state.station.deciding.explain(Prepared("late", support.atlas.image(0)))
    store.close()


def test_an_error_of_the_model_reaches_the_asker_and_the_thread_goes_on(
    support: DecisionSupport, web: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = web.app.state.station.decoders.prepare(web.cells[0][1], "cell.png")
    deciding = Deciding(support)

    def broken(*_: object, **__: object) -> None:
        raise ValueError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(DecisionSupport, "decide", broken)
        with pytest.raises(ValueError, match="broken"):
            deciding.decide([picture])[0].result()
    assert deciding.decide([picture])[0].result().query == "cell.png"
    deciding.close()


def test_a_prepared_picture_is_not_prepared_again(support: DecisionSupport) -> None:
    """Looked at as it is stored: features are those of the picture, not of a second preparation."""
    pictures = [Prepared(name, support.atlas.image(i)) for i, name in enumerate("abc")]
    looks = support.look(pictures)
    assert [look.query for look in looks] == ["a", "b", "c"]
    for look, picture in zip(looks, pictures, strict=True):
        assert np.array_equal(look.image, picture.image)
    found = support.decide(pictures)
    assert [d.neighbors[0].distance for d in found] == [0, 0, 0]


# evidence -----------------------------------------------------------------------------------------


def test_evidence_is_what_the_library_computes(web: Workstation, support: DecisionSupport) -> None:
    client = web.client("rolf")
    case = web.case(client, 1)
    cell = cells_of(client, case["id"])[0]
    told = ok(client.get(f"/api/v1/cells/{cell['id']}/evidence"))
    picture = client.get(told["query"]["image"])
    assert picture.headers["content-type"] == "image/png"
    stored = np.asarray(Image.open(io.BytesIO(picture.content)))
    wanted = support.explain(Prepared(cell["name"], stored))
    assert told["decision"] == cell["decision"] == plain(wanted.decision.to_json())
    assert told["size"] == stored.shape[0]
    h, w = told["grid"]
    for pair, made in zip(told["pairs"], wanted.pairs, strict=True):
        raw = np.frombuffer(base64.b64decode(pair["tensor"]), "<f4").reshape(h, w, h, w)
        assert np.array_equal(raw, made.tensor)
        assert np.allclose(raw.sum((2, 3)), pair["on_query"], rtol=1e-4, atol=1e-5)
        assert np.allclose(raw.sum((0, 1)), pair["on_reference"], rtol=1e-4, atol=1e-5)
    assert np.isclose(
        sum(n["share"] for n in told["neighbors"]) + wanted.influence.other_shares,  # type: ignore[union-attr]
        wanted.decision.agreement,
    )
    shown = told["neighbors"] + told["counter"]["neighbors"]
    for kin in shown:
        image = np.asarray(Image.open(io.BytesIO(client.get(kin["image"]).content)))
        assert np.array_equal(image, support.atlas.image(support.atlas.cells.ids.index(kin["id"])))
    limit = max(np.abs(np.array(p["on_query"])).max() for p in told["pairs"])
    assert told["limits"]["pair"] >= limit
    sides = {c["clinical"] == LYMPHOBLAST for c in told["counter"]["neighbors"]}
    assert sides == {wanted.decision.clinical != LYMPHOBLAST}


def test_evidence_is_remembered_within_bounds(web: Workstation) -> None:
    client = web.client("rolf")
    cell = cells_of(client, web.case(client, 1)["id"])[0]
    where = f"/api/v1/cells/{cell['id']}/evidence"
    first = client.get(where).content
    assert web.app.state.station.evidence.get(cell["id"]) == first
    assert client.get(where).content == first


def test_the_memory_of_evidence_forgets_the_longest_unused() -> None:
    cache = Remembered(10)
    cache.put("a", b"1234")
    cache.put("b", b"5678")
    assert cache.get("a") == b"1234"
    cache.put("c", b"9012")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (b"1234", None, b"9012")
    cache.put("c", b"3")
    assert cache.held == 5
    cache.put("d", b"x" * 11)
    assert cache.get("d") is None
    assert cache.held == 5


def test_explain_stores_nothing_and_needs_one_image(web: Workstation) -> None:
    client = web.client("vera")
    files = [("files", (name, data, "image/png")) for name, data in web.cells[:2]]
    told = ok(client.post("/api/v1/explain", files=files[:1]))
    assert told["query"]["image"].startswith("data:image/png;base64,")
    assert client.post("/api/v1/explain", files=files).status_code == 422
    bad = client.post("/api/v1/explain", files=[("files", ("grey.png", grey(), "image/png"))])
    assert bad.status_code == 422
    assert "greyscale" in bad.json()["detail"]


def test_explain_asks_for_no_decision_and_takes_no_zip_of_two(
    web: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = web.client("vera")
    monkeypatch.setattr(Deciding, "decide", lambda *_: pytest.fail("nobody asked for a decision"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in web.cells[:2]:
            archive.writestr(name, data)
    name, data = web.cells[0]
    one = ok(client.post("/api/v1/explain", files=[("files", (name, data))]))
    assert one["query"]["id"] == name
    two = client.post("/api/v1/explain", files=[("files", ("two.zip", packed.getvalue()))])
    assert ok(two, 422)["detail"] == "one image at a time"


def test_a_refused_map_is_not_sent(support: DecisionSupport) -> None:
    from dataclasses import replace

    look = support.look(Prepared("q", support.atlas.image(0)))
    good = support.explain(look)
    bad = replace(good, pairs=tuple(replace(p, completeness=1.0) for p in good.pairs))
    for pair in evidence_json(bad, {})["pairs"]:
        assert "refused" in pair["refused"]
        assert pair["tensor"] is pair["on_query"] is pair["on_reference"] is None


def test_evidence_of_another_atlas_is_refused(
    web: Workstation, support: DecisionSupport, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = web.client("rolf")
    cell = cells_of(client, web.case(client, 1)["id"])[0]
    monkeypatch.setitem(support.atlas.__dict__, "id", "another")
    answer = client.get(f"/api/v1/cells/{cell['id']}/evidence")
    assert answer.status_code == 409
    assert answer.json()["type"].endswith(":other-atlas")


def test_a_tensor_travels_as_little_endian_float32(rng: np.random.Generator) -> None:
    values = rng.normal(size=(2, 3, 2, 3))
    raw = base64.b64decode(tensor_text(values.transpose(1, 0, 2, 3)))
    assert np.array_equal(
        np.frombuffer(raw, "<f4").reshape(3, 2, 2, 3), values.transpose(1, 0, 2, 3).astype("f4")
    )


# the atlas ----------------------------------------------------------------------------------------


def test_the_atlas_tells_what_it_is(web: Workstation, support: DecisionSupport) -> None:
    client = web.client("vera")
    facts = ok(client.get("/api/v1/atlas"))
    atlas = support.atlas
    assert [c["name"] for c in facts["classes"]] == list(atlas.labels.names)
    assert sum(c["count"] for c in facts["classes"]) == len(atlas.cells)
    assert facts["dispositions"] == ["smudge cell", "artefact", "unidentifiable"]
    assert facts["notice"]
    points = ok(client.get("/api/v1/atlas/map"))["points"]
    assert [p["id"] for p in points] == list(atlas.cells.ids)
    assert np.allclose([[p["x"], p["y"]] for p in points], atlas.xy)


def test_reference_cells_by_class_and_by_id(web: Workstation, support: DecisionSupport) -> None:
    client = web.client("vera")
    label = support.atlas.labels.names[0]
    first = ok(client.get("/api/v1/atlas/cells", params={"label": label, "limit": 3}))
    assert {c["label"] for c in first["items"]} == {label}
    rest = ok(
        client.get(
            "/api/v1/atlas/cells", params={"label": label, "limit": 500, "cursor": first["next"]}
        )
    )
    assert len(first["items"]) + len(rest["items"]) == support.atlas.cells.labels.count(label)
    one = first["items"][0]
    assert "/" in one["id"], "ids are paths: they must survive an address"
    assert ok(client.get(cell_address(one["id"]).removesuffix("/image"))) == one
    unknown = client.get("/api/v1/atlas/cells", params={"label": "basophill"})
    assert unknown.status_code == 422
    assert client.get("/api/v1/atlas/cells/nothing/such.png").status_code == 404
    assert client.get("/api/v1/atlas/cells", params={"cursor": "-1"}).status_code == 422


# people -------------------------------------------------------------------------------------------


def test_admins_keep_people_and_read_the_log(web: Workstation) -> None:
    client = web.client("anna")
    new = {"name": "nele", "password": "a good long one", "role": "viewer"}
    assert ok(client.post("/api/v1/users", json=new), 201)["role"] == "viewer"
    assert "nele" in [u["name"] for u in ok(client.get("/api/v1/users"))["items"]]
    changed = ok(client.patch("/api/v1/users/nele", json={"role": "reviewer"}))
    assert changed["role"] == "reviewer"
    log = ok(client.get("/api/v1/log", params={"limit": 2}))
    assert log["items"][0]["action"] == "user changed"
    assert log["next"]
    assert ok(client.get("/api/v1/log/check"))["faults"] == []
    assert "a good long one" not in client.get("/api/v1/log?limit=500").text


# the prepared case --------------------------------------------------------------------------------


def test_the_prepared_case_is_made_once(
    support: DecisionSupport, smears: Any, tmp_path: Any
) -> None:
    test = next(cells for cells in support.atlas.held_out if cells.part == "test")
    samples = smears.select(test.ids)
    store = Store.open(tmp_path / "store.sqlite")
    case = prepare_case(support, store, samples)
    assert case.pseudonym == PSEUDONYM
    assert 0 < case.cells <= 24
    assert case.held <= 6
    assert prepare_case(support, store, samples).id == case.id
    assert store.verify_log().faults == ()
    store.close()


def test_a_finer_contrast_map_is_asked_for_and_as_strong_as_the_others(
    web: Workstation, support: DecisionSupport
) -> None:
    client = web.client("rolf")
    cell = cells_of(client, web.case(client, 1)["id"])[0]
    where = f"/api/v1/cells/{cell['id']}/evidence"
    coarse, fine = ok(client.get(where)), ok(client.get(f"{where}?fine=2"))
    maps = [np.array(told["contrast"]["query"]["values"]) for told in (coarse, fine)]
    assert maps[1].shape == (2 * maps[0].shape[0], 2 * maps[0].shape[1])
    stored = np.asarray(Image.open(io.BytesIO(client.get(fine["query"]["image"]).content)))
    made = support.finer(support.explain(Prepared(cell["name"], stored)), 2).contrast
    assert made is not None
    assert maps[1] == pytest.approx(4 * made.on_query.values)
    assert fine["limits"]["contrast"] >= np.abs(maps[1]).max() - 1e-9
    assert (coarse["contrast"]["looks"], "4 looks" in fine["contrast"]["looks"]) == ("", True)
    assert ok(client.get(where)) == coarse  # each is remembered by itself
    assert client.get(f"{where}?fine=9").status_code == 422
