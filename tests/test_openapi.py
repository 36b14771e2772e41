"""Whatever is sent to the API, it never breaks, and answers as its description says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from workstation import HOST, SYSTEM, Workstation, workstation

from cellkin.system import DecisionSupport

EXAMPLES = 6  # requests as described, and as many against the description, for each route
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def program(
    support: DecisionSupport,
    new_cells: list[tuple[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Workstation, TestClient]]:
    """A workstation with a case, and a program that may do everything."""
    with workstation(support, new_cells, tmp_path_factory.mktemp("web")) as opened:
        opened.case(opened.client("rolf"), 3)
        scopes = ("read", "upload", "review", "admin")
        secret, _ = opened.store.add_token(SYSTEM, "anna", scopes, days=1)
        header = {"Authorization": f"Bearer {secret}"}
        yield opened, TestClient(opened.app, base_url=HOST, headers=header)


def test_the_description_names_every_route(program: tuple[Workstation, TestClient]) -> None:
    station, client = program
    described = client.get("/api/v1/openapi.json").json()
    assert len(described["paths"]) > 30
    for path, methods in described["paths"].items():
        for method, told in methods.items():
            assert told["summary"], (method, path)
            assert told.get("description"), (method, path)
            assert "application/problem+json" in told["responses"]["4XX"]["content"], path
    assert "Problem" in described["components"]["schemas"]
    assert station.client().get("/api/v1/openapi.json").status_code == 401


def test_nothing_that_is_sent_breaks_it(program: tuple[Workstation, TestClient]) -> None:
    """Schemathesis makes requests from the description; answers must be as described, too."""
    station, client = program
    headers = {"Authorization": client.headers["Authorization"], "Host": "localhost"}
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", station.app, headers=headers)
    ids = known_ids(client)
    tried = 0
    for found in schema.get_all_operations():
        for mode in GenerationMode:
            _try(found.ok().as_strategy(generation_mode=mode), headers, ids)
        tried += 1
    assert tried > 30
    assert station.store.verify_log().faults == ()


def known_ids(client: TestClient) -> dict[str, str]:
    """Ids that exist, so that requests reach what lies behind the look-up."""
    case = client.get("/api/v1/cases").json()["items"][0]["id"]
    cell = client.get(f"/api/v1/cases/{case}/cells").json()["items"][0]["id"]
    return {"case": case, "cell": cell, "name": "vera", "token": "none"}


def _try(strategy: Any, headers: dict[str, str], ids: dict[str, str]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, known=st.booleans())
    def attempt(case: Any, known: bool) -> None:
        for name in ids if known else ():
            if name in case.path_parameters:
                case.path_parameters[name] = ids[name]
        case.call_and_validate(headers=headers, checks=CHECKS)

    attempt()
