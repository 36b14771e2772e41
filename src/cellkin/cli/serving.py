"""Verbs that keep the workstation's store: users, log, backup, restore."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cellkin.cli.console import err, print_json, progress, say, talk
from cellkin.cli.options import Json, examples
from cellkin.cli.serving_http import (
    STORE,
    AuditKeyAt,
    StoreAt,
    adding_people,
    read_key,
    require_web,
)
from cellkin.core.errors import ArtifactError, RecipeError

if TYPE_CHECKING:
    from cellkin.web.store import Actor, LogEntry, Store

Name = Annotated[str, typer.Argument(metavar="NAME", help="The person's name.")]
FromInput = Annotated[
    bool, typer.Option("--stdin", help="Read the password from standard input, one line.")
]

users = typer.Typer(no_args_is_help=True, help="People who may sign in to the workstation.")


def _actor() -> Actor:
    """Whoever may run commands on this machine keeps the store; the log says who that was."""
    import getpass

    from cellkin.web.store import Actor

    return Actor(getpass.getuser(), "admin", "command line")


@contextmanager
def _opened(place: str, key: Path | None = None, *, new: bool = False) -> Iterator[Store]:
    """The store at a place, its log sealed with a key; `new` allows to make one."""
    require_web()
    from cellkin.web.store import Store

    if not new and "://" not in place and not Path(place).expanduser().is_file():
        raise ArtifactError(
            "there is no store here",
            where=place,
            mend="give --store, the one that cellkin serve was given",
        )
    store = Store.open(place, key=read_key(key))
    try:
        yield store
    finally:
        store.close()


def _password(from_input: bool) -> str:
    if from_input:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise RecipeError(
            "nobody is there to type the password",
            where="standard input is no terminal",
            mend="run it in a terminal, or give --stdin and one line of input",
        )
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


# people -----------------------------------------------------------------------------------------


@examples("""
cellkin users add anna --role admin
cellkin users add ben --role reviewer --store ~/cases.sqlite
pass show ben | cellkin users add ben --stdin
""")
def add(
    name: Name,
    role: Annotated[
        str,
        typer.Option(
            help="viewer (looks), reviewer (decides and signs) or admin (keeps people and log)."
        ),
    ] = "reviewer",
    stdin: FromInput = False,
    store: StoreAt = str(STORE),
    audit_key: AuditKeyAt = None,
    json: Json = False,
) -> None:
    """Make an account; the first one, of an admin, makes the store as well."""
    with _opened(store, audit_key, new=True) as kept:
        made = kept.add_user(_actor(), name, _password(stdin), role)
    if json:
        print_json(made.to_json())
    talk(f"{made.name} may sign in as {made.role}")


@examples("""
cellkin users list
cellkin users list --json --store ~/cases.sqlite
""")
def list_(store: StoreAt = str(STORE), json: Json = False) -> None:
    """List all accounts."""
    with _opened(store) as kept:
        found = kept.users()
    if json:
        print_json({"users": [user.to_json() for user in found]})
        return
    for user in found:
        state = "  shut out" if user.disabled else ""
        typer.echo(f"{user.name}  {user.role}  since {user.created[:10]}{state}")
    if not found:
        talk(f"nobody yet: {adding_people(store)}")


@examples("""
cellkin users password anna
pass show anna | cellkin users password anna --stdin
""")
def password(
    name: Name,
    stdin: FromInput = False,
    store: StoreAt = str(STORE),
    audit_key: AuditKeyAt = None,
) -> None:
    """Give a person a new password; all their sessions and tokens end."""
    with _opened(store, audit_key) as kept:
        kept.set_password(_actor(), kept.user(name).name, _password(stdin))
    talk(f"{name} has a new password")


@examples("""
cellkin users disable ben
cellkin users disable ben --undo
""")
def disable(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let them in again.")] = False,
    store: StoreAt = str(STORE),
    audit_key: AuditKeyAt = None,
) -> None:
    """Shut a person out: sessions end and tokens do nothing. What they signed stays theirs."""
    with _opened(store, audit_key) as kept:
        kept.change_user(_actor(), name, disabled=not undo)
    talk(f"{name} may sign in again" if undo else f"{name} is shut out")


@examples("""
cellkin users factor anna
cellkin users factor anna --remove
""")
def factor(
    name: Name,
    remove: Annotated[bool, typer.Option("--remove", help="The authenticator is lost.")] = False,
    store: StoreAt = str(STORE),
    audit_key: AuditKeyAt = None,
) -> None:
    """Give a person a second factor: an authenticator's code at each login (TOTP)."""
    from cellkin.web.store.passwords import address_of

    with _opened(store, audit_key) as kept:
        if remove:
            kept.end_factor(_actor(), name)
            talk(f"{name} signs in with the password alone")
            return
        secret = kept.set_factor(_actor(), name)
    talk(f"Put this into the authenticator of {name}; it is shown this once")
    typer.echo(address_of(name, secret))


@examples("""
cellkin users groups ben haematology
cellkin users groups ben (in none: only cases of everybody)
""")
def groups(
    name: Name,
    groups: Annotated[
        list[str] | None, typer.Argument(metavar="[GROUP]...", help="All that they are in.")
    ] = None,
    store: StoreAt = str(STORE),
    audit_key: AuditKeyAt = None,
) -> None:
    """Say which groups a person is in: cases of other groups are not there for them."""
    with _opened(store, audit_key) as kept:
        found = kept.change_user(_actor(), name, groups=groups or ())
    talk(f"{name} is in {', '.join(found.groups) or 'no group'}")


VERBS: dict[str, Callable[..., None]] = {
    "add": add,
    "list": list_,
    "password": password,
    "disable": disable,
    "factor": factor,
    "groups": groups,
}
for called, verb in VERBS.items():
    users.command(called, epilog=getattr(verb, "examples", None))(verb)


# log --------------------------------------------------------------------------------------


@examples("""
cellkin log --verify
cellkin log --verify --heads /mnt/elsewhere/heads.txt
cellkin log --verify --witness 812:5f0c...e1 (from a signed report)
cellkin log --verify --audit-key /etc/cellkin/audit.key
cellkin log --seal --audit-key /etc/cellkin/audit.key (from that day on)
cellkin log --case ID --json
""")
def log(
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the chain, and the store against the log.")
    ] = False,
    witness: Annotated[
        str | None,
        typer.Option(metavar="NUMBER:HASH", help="An entry written down elsewhere, to be found."),
    ] = None,
    heads: Annotated[
        Path | None,
        typer.Option(
            help="A file kept elsewhere: its last line must be in the log, then a line is added."
        ),
    ] = None,
    seal: Annotated[
        bool, typer.Option("--seal", help="Verify, then begin to seal the log with --audit-key.")
    ] = False,
    case: Annotated[str | None, typer.Option(help="Only entries about this case (its id).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest entries.")] = 50,
    store: StoreAt = str(STORE),
    audit_key: AuditKeyAt = None,
    json: Json = False,
) -> None:
    """Show who did what, or verify that the log is whole; exits with 2 where it is not."""
    with _opened(store, audit_key) as kept:
        if seal:
            _seal(kept)
            return
        if verify or witness or heads:
            _verify(kept, _witness(witness, heads), heads, json)
            return
        entries, _ = kept.log(case=case, limit=limit)
    entries.reverse()
    say(json, {"entries": [entry.to_json() for entry in entries]}, map(_line, entries))


def _line(entry: LogEntry) -> str:
    about = " ".join(f"{k} {v}" for k, v in (("case", entry.case), ("cell", entry.cell)) if v)
    who = f"{entry.user} ({entry.role}, {entry.how})"
    return f"{entry.number:>6}  {entry.at[:19]}  {who}  {entry.action}  {about}".rstrip()


def _witness(given: str | None, heads: Path | None) -> tuple[int, str] | None:
    if given is None and heads is not None and heads.is_file():
        lines = heads.read_text(encoding="utf-8").split("\n")
        given = ":".join([line for line in lines if line][-1].split()[:2]) if any(lines) else None
    if given is None:
        return None
    number, _, found = given.partition(":")
    if not number.isdigit() or not found:
        raise RecipeError(
            "this is no entry of a log",
            where=given,
            mend="write NUMBER:HASH, as a signed report prints them",
        )
    return int(number), found.strip()


def _seal(store: Store) -> None:
    number = store.seal_log(_actor())
    talk("The log is sealed from now on: everything that writes to this store needs the key.")
    typer.echo(f"{number}:{store.verify_log().head}")


def _verify(store: Store, witness: tuple[int, str] | None, heads: Path | None, json: bool) -> None:
    with progress() as tell:
        found = store.verify_log(witness, tell)
    whole = f"intact: {found.entries} entries, the last one is {found.entries}:{found.head}"
    if found.sealed and store.database.key is None:
        talk("The log is sealed with a key that was not given: its seal was not checked.")
    told = {**found.to_json(), "intact": found.intact}
    say(json, told, [whole] if found.intact else found.faults)
    if not found.intact:
        talk("This log or store was tampered with. Keep it as it is, and restore a backup beside.")
        raise typer.Exit(2)
    if heads is not None and found.entries:
        with heads.open("a", encoding="utf-8") as file:
            file.write(f"{found.entries} {found.head}\n")


# backup -----------------------------------------------------------------------------------------


@examples("""
cellkin backup cases-2026-01-01.sqlite
cellkin backup backup.sqlite --store postgresql://cellkin@db/cellkin
""")
def backup(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    store: StoreAt = str(STORE),
    audit_key: AuditKeyAt = None,
    json: Json = False,
) -> None:
    """Write all cases, people and the log into one file, while the workstation is in use."""
    with _opened(store, audit_key) as kept, progress() as tell:
        path = kept.backup(out, tell, actor=_actor())
    say(json, {"out": str(path), "bytes": path.stat().st_size}, [str(path)])


@examples("""
cellkin restore cases-2026-01-01.sqlite --store restored.sqlite
cellkin restore backup.sqlite --store postgresql://cellkin@db/cellkin
""")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What cellkin backup wrote.")],
    store: StoreAt = str(STORE),
    audit_key: AuditKeyAt = None,
    json: Json = False,
) -> None:
    """Check a backup and put it where nothing is yet; nothing is ever overwritten."""
    require_web()
    from cellkin.web.store import Store

    with progress() as tell:
        kept = Store.restore(file, store, tell, key=read_key(audit_key))
    entries, people = kept.log(limit=1)[0], kept.users()
    kept.close()
    told = {"store": store, "entries": entries[0].number if entries else 0, "users": len(people)}
    if json:
        print_json(told)
    else:
        table = Table(box=None, show_header=False, padding=(0, 2))
        for key, value in told.items():
            table.add_row(key, str(value))
        err.print(table)
        typer.echo(store)
