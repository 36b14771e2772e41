"""Connections under watch: how many, how slow, and how long each may take to say what it wants.

uvicorn closes a connection that is idle between requests, but waits for ever for the rest of a
header, for a body that nobody reads, and for a client that does not take its answer. `Watched` is
uvicorn's own protocol with these deadlines; `Door` counts the connections, also by address.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cellkin.web.problems import ProblemError, answer
from cellkin.web.settings import Traffic

SWEEP = 1.0  # seconds between two looks at all connections, at most
NETWORK = 64  # bits of an IPv6 address that one customer of a provider has


class Door:
    """Counts connections, turns away those too many, and cuts off those too slow.

    Args:
        traffic: the bounds. proxied: everybody comes from a proxy on this machine, which bounds
            connections by address itself: here they are bounded together only.
    """

    def __init__(self, traffic: Traffic, *, proxied: bool) -> None:
        self.traffic, self._proxied = traffic, proxied
        self._open: set[Watched] = set()
        self._by_address: Counter[str] = Counter()
        self._sweeping = False

    def enter(self, one: Watched, address: str) -> bool:
        """Whether there is room for this connection; it counts until it leaves."""
        self._open.add(one)
        self._by_address[address] += 1
        if not self._sweeping:
            self._sweeping = True
            self._sweep_later(one.loop)
        crowd = not self._proxied and self._by_address[address] > self.traffic.per_address
        return not crowd and len(self._open) <= self.traffic.connections

    def leave(self, one: Watched, address: str) -> None:
        """A connection has ended."""
        self._open.discard(one)
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        traffic = self.traffic
        loop.call_later(
            min(SWEEP, traffic.header_seconds / 4, traffic.grace_seconds / 4), self._sweep, loop
        )

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for one in tuple(self._open):
            if one.late(now):
                one.transport.abort()
        self._sweeping = bool(self._open)
        if self._sweeping:
            self._sweep_later(loop)


class Watched(H11Protocol):
    """A connection with deadlines. Subclasses name their `door`, see `configured`."""

    door: Door

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, or tell it that there is no room."""
        super().connection_made(transport)
        self._address = _counted_as(self.client[0] if self.client else "")
        self._asked_since = self.loop.time()
        self._unsent_since: float | None = None
        self._unsent = 0
        self._inside = self.door.enter(self, self._address)
        if not self._inside:
            transport.write(_no_room())
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        super().connection_lost(exc)
        self.door.leave(self, self._address)

    def data_received(self, data: bytes) -> None:
        """Read on, unless it was turned away."""
        if self._inside:
            super().data_received(data)

    def on_response_complete(self) -> None:
        """From now on the next header is waited for, or the end of a body that nobody read."""
        self._asked_since = self.loop.time()
        super().on_response_complete()

    def late(self, now: float) -> bool:
        """Whether its header, or the taking of its answer, has had all its time. (Bodies that are
        read have their deadline where they are read, see `Bounded`.)
        """
        unsent = self.transport.get_write_buffer_size()
        if not unsent:
            self._unsent_since = None
        elif self._unsent_since is None:
            self._unsent_since, self._unsent = now, unsent
        elif now - self._unsent_since > self.door.traffic.patience(self._unsent):
            return True
        answering = self.cycle is not None and not self.cycle.response_complete
        return not answering and now - self._asked_since > self.door.traffic.header_seconds


def _counted_as(address: str) -> str:
    """An address, or the network of an IPv6 address: one machine has many of these."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, NETWORK), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)


def _no_room() -> bytes:
    """An answer to a connection too many, before it has asked anything."""
    told = answer(
        ProblemError(
            503,
            "busy",
            "too many connections are open",
            mend="close some, or try again later",
            headers={"Retry-After": "10", "Connection": "close"},
        )
    )
    head = [f"HTTP/1.1 503 {HTTPStatus(503).phrase}".encode()]
    head += [name.title() + b": " + value for name, value in told.raw_headers]
    return b"\r\n".join([*head, b"", bytes(told.body)])


def configured(app: Any, traffic: Traffic, *, proxied: bool, **options: Any) -> uvicorn.Config:
    """uvicorn for an app, with connections under watch.

    Args:
        proxied: a proxy on this machine stands in front; its word about who asks is taken.
        options: further ones of `uvicorn.Config`.
    """

    class AtThisDoor(Watched):
        door = Door(traffic, proxied=proxied)

    return uvicorn.Config(
        app,
        http=AtThisDoor,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=proxied,
        forwarded_allow_ips="127.0.0.1",
        **options,
    )
