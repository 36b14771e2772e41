"""The app factory: an atlas, a store and settings become a workstation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from fastapi import FastAPI

import cellkin
from cellkin.core.records import NOTICE
from cellkin.system import DecisionSupport
from cellkin.web import api, pages, problems
from cellkin.web.bodies import Bounded
from cellkin.web.security import API, Guard, KnownHost, Sealed
from cellkin.web.settings import Settings
from cellkin.web.station import Station
from cellkin.web.store import Store


def create_app(atlas: Path | DecisionSupport, store: Store, settings: Settings) -> FastAPI:
    """A workstation over one atlas and one store.

    Args:
        atlas: the folder of an atlas, or one that was opened; nobody else may ask its network.
        store: stays open when the app ends: the caller closes it.

    Raises:
        ArtifactError: it is no atlas.
    """
    support = atlas if isinstance(atlas, DecisionSupport) else DecisionSupport.open(atlas)
    register(support, store)
    store.rules = settings.rules
    station = Station.start(support, store, settings)
    app = FastAPI(
        title="cellkin",
        version=cellkin.__version__,
        description=f"Decision support for acute lymphoblastic leukemia. {NOTICE}",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # it fetches its scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan(station),
        redirect_slashes=False,
    )
    app.state.station = station
    problems.install(app)
    app.include_router(api.router)
    app.include_router(pages.router)
    app.add_api_route("/healthz", _healthy, include_in_schema=False)
    # the last one added is the first to see a request
    app.add_middleware(Guard, identities=station.identities)
    app.add_middleware(Bounded, settings=settings, uploads=api.takes_uploads)
    app.add_middleware(KnownHost, settings=settings)
    app.add_middleware(Sealed, secure=settings.secure_cookies)
    app.openapi = _openapi(app)  # type: ignore[method-assign]
    return app


def register(support: DecisionSupport, store: Store) -> None:
    """Tell a store of an atlas, so that it takes cells that it decided, and shows their kin."""
    atlas = support.atlas
    store.register_atlas(atlas.id, atlas.labels, support.facts(), atlas.pngs)


def _lifespan(station: Station) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warming = Thread(target=station.warm, name="warming")
        warming.start()
        yield
        warming.join()
        station.close()

    return lifespan


async def _healthy() -> dict[str, str]:
    """That it runs, and nothing else."""
    return {"status": "ok"}


def _openapi(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The description of the API, with how one proves who one is and what errors look like."""

    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = plain()
            parts = made.setdefault("components", {})
            parts.setdefault("schemas", {})["Problem"] = problems.Problem.model_json_schema()
            parts["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "cellkin"},
            }
            made["security"] = [{"token": []}, {"session": []}]
        return plain()  # it keeps what it made

    return described
