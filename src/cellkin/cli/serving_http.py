"""The verb serve: the workstation in a browser."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cellkin.cli.cells import AtlasFolder, PlaceName
from cellkin.cli.console import progress, talk
from cellkin.cli.options import Device, Trust, examples
from cellkin.core.errors import OutputError, RecipeError
from cellkin.core.records import NOTICE

STORE = Path("workstation.sqlite")
GRACE = 30  # seconds for what is being answered when the workstation is stopped
WEB = {"alembic", "argon2", "fastapi", "multipart", "pydantic", "sqlalchemy", "uvicorn"}

StoreAt = Annotated[
    str,
    typer.Option(
        "--store", metavar="FILE|URL", help="Where cases are kept: an SQLite file, or postgresql://"
    ),
]
AuditKeyAt = Annotated[
    Path | None,
    typer.Option(
        "--audit-key", metavar="FILE", help="The key that seals the log, kept off the database."
    ),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]


@examples("""
cellkin serve atlas
cellkin serve atlas --store ~/cases.sqlite --port 9000
cellkin serve adopted --place Chula
cellkin serve atlas --originals /data/originals --originals-quota 500
cellkin serve atlas --accounts --host 0.0.0.0 --allow-host lab.example.org --behind-proxy
""")
def serve(
    atlas: AtlasFolder,
    store: StoreAt = str(STORE),
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback need --accounts.")
    ] = "127.0.0.1",
    port: Port = 8765,
    accounts: Annotated[
        bool, typer.Option("--accounts", help="People sign in (see cellkin users).")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name it is called by; repeatable.")
    ] = None,
    behind_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-proxy", help="A proxy on this machine speaks TLS: cookies travel over TLS."
        ),
    ] = False,
    second_factor: Annotated[
        bool,
        typer.Option(
            "--second-factor",
            help="Admins without a second factor (cellkin users factor) do no more than reviewers.",
        ),
    ] = False,
    originals: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|URL", help="Where uploaded files are kept; by default in the store."
        ),
    ] = None,
    originals_quota: Annotated[
        float, typer.Option(min=0.001, metavar="GIB", help="Room for uploaded files.")
    ] = 50.0,
    audit_key: AuditKeyAt = None,
    reasons: Annotated[
        bool,
        typer.Option(
            "--reasons/--routine-without-reasons",
            help="Whether every change needs one, or only grave ones (held cells, lymphoblasts).",
        ),
    ] = True,
    least_view: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="To look at a held cell, at least.")
    ] = 0.8,
    place: PlaceName = None,
    trust: Trust = None,
    device: Device = "auto",
) -> None:
    """Open the workstation: look at cells, decide, sign and report, in a browser."""
    door = open_door(port, host=host, accounts=accounts)
    from cellkin.web.settings import Settings
    from cellkin.web.store import Keeping, Rules, Shelf, Store

    settings = Settings(
        host=host,
        port=port,
        hosts=tuple(allow_host or ()),
        accounts=accounts,
        secure_cookies=behind_proxy,
        second_factor=second_factor,
        rules=Rules(routine_reasons=reasons, least_view=least_view),
    )
    talk("Opening the store of cases")
    shelf = None if originals is None else Shelf(originals)
    keeping = Keeping(shelf, round(originals_quota * 2**30))
    opened = Store.open(store, keeping=keeping, key=read_key(audit_key))
    try:
        _require_people(opened, settings, store)  # said before torch is loaded, which takes seconds
        talk("Loading what runs the network: some seconds")
        from cellkin.system import DecisionSupport

        talk(f"Opening the atlas, and checking every byte of it: {atlas}")
        run(DecisionSupport.open(atlas, device=device).at(place), opened, settings, door)
    finally:
        door.close()
        opened.close()


def read_key(path: Path | None) -> Any:
    """The key of the log in a file, None where none was given. Raises ArtifactError."""
    from cellkin.web.store import AuditKey

    return None if path is None else AuditKey.read(path)


def require_web() -> None:
    """Refuse where the packages of the workstation are not installed.

    Raises:
        RecipeError: one of them is missing.
    """
    import importlib.util

    missing = sorted(name for name in WEB if importlib.util.find_spec(name) is None)
    if missing:
        raise RecipeError(
            "the workstation's packages are not installed",
            where=", ".join(missing),
            mend="pip install 'cellkin[web]'",
        )


def open_door(port: int, *, host: str = "127.0.0.1", accounts: bool = False) -> socket.socket:
    """A socket that listens; nothing is opened or trained before it is sure to be had.

    Raises:
        RecipeError: packages are missing, or the address is open to others without accounts.
        OutputError: the address is taken, or not this machine's.
    """
    require_web()
    from cellkin.web.settings import Settings

    Settings(host=host, port=port, accounts=accounts)  # refuses before anything is open
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=256)
    except OSError as error:
        raise OutputError(
            f"this address cannot be listened on: {error.strerror or error}",
            where=f"{host}:{port}",
            mend="choose another --port, or 0 for a free one",
        ) from None


def run(support: Any, store: Any, settings: Any, door: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM; what is being answered is finished first."""
    import uvicorn

    from cellkin.web.app import create_app
    from cellkin.web.sandbox import told
    from cellkin.web.traffic import configured

    app = create_app(support, store, settings)
    config = configured(
        app,
        settings.traffic,
        proxied=settings.secure_cookies,
        timeout_graceful_shutdown=GRACE,
    )
    talk(told(app.state.station.decoders.held()))
    shown, port = door.getsockname()[:2]
    shown = f"[{shown}]" if ":" in shown else shown
    talk(f"The workstation is open at http://{shown}:{port}/   (Ctrl-C closes it)")
    talk(NOTICE)
    uvicorn.Server(config).run(sockets=[door])


def serve_example(support: Any, samples: Sequence[Any], store: Path, door: socket.socket) -> None:
    """Serve an atlas to one person on this machine, with a case prepared from these cells."""
    from cellkin.web.example import prepare_case
    from cellkin.web.settings import Settings
    from cellkin.web.store import Store

    opened = Store.open(store)
    try:
        with progress() as tell:
            prepare_case(support, opened, samples, progress=tell)
        run(support, opened, Settings(), door)
    finally:
        door.close()
        opened.close()


def _require_people(store: Any, settings: Any, place: str) -> None:
    if settings.accounts and not store.users():
        raise RecipeError(
            "nobody could sign in: there are no accounts yet",
            where="--accounts",
            mend=adding_people(place),
        )


def adding_people(place: str) -> str:
    """The command that adds the first person to the store at a place; no password is repeated."""
    shown = "URL (as given here)" if "://" in place else shlex.quote(place)
    return f"cellkin users add NAME --role admin --store {shown}"
