"""Bodies of requests: how long they may be, by the route that they are sent to, and how slow.

What a route takes is said by the route itself (`UPLOAD` of `cellkin.web.api.stateless`), never by
the header of a stranger: what takes no upload takes a mebibyte, and what is open without login
takes 16 KiB.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from anyio import fail_after
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cellkin.web.problems import ProblemError, answer
from cellkin.web.security import is_public
from cellkin.web.settings import Settings, Traffic

SMALL_BODY = 2**20  # bytes of a request that uploads nothing
OPEN_BODY = 2**14  # bytes of a request that anybody may send: a name and a password


class Bounded:
    """Refuses bodies that are too long, by their header and while they come in, and too slow ones.

    Args:
        uploads: whether the route of a method and path takes uploads.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, uploads: Callable[[str, str], bool]
    ) -> None:
        self.app, self.settings, self.uploads = app, settings, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self.most(scope["method"], scope["path"])
        promised = Headers(scope=scope).get("content-length", "0")
        if not promised.isdecimal() or len(promised) > 18 or int(promised) > most:
            await answer(_too_long(most))(scope, receive, send)
            return
        body = _Body(receive, most, self.settings.traffic)

        async def unless_refused(message: Message) -> None:
            if body.refusal is None:
                await send(message)

        try:
            await self.app(scope, body, unless_refused)
        except ProblemError as error:
            if error is not body.refusal:
                raise
        if body.refusal is not None:  # whatever the route made of it
            await answer(body.refusal)(scope, receive, send)

    def most(self, method: str, path: str) -> int:
        """Bytes that a request may send there."""
        if is_public(method, path):
            return OPEN_BODY
        if self.uploads(method, path):
            return self.settings.max_upload_bytes + SMALL_BODY
        return SMALL_BODY


class _Body:
    """The incoming side of one request, counted in bytes and in seconds spent waiting for it."""

    def __init__(self, receive: Receive, most: int, traffic: Traffic) -> None:
        self._receive, self._most, self._traffic = receive, most, traffic
        self._got, self._waited, self._whole = 0, 0.0, False
        self.refusal: ProblemError | None = None

    async def __call__(self) -> Message:
        if self._whole:  # only the end of the connection may follow: that is waited for
            return await self._receive()
        started = time.monotonic()
        try:
            with fail_after(max(0.0, self._traffic.patience(self._got) - self._waited)):
                message = await self._receive()
        except TimeoutError:
            raise self._refused(_too_slow(self._traffic)) from None
        self._waited += time.monotonic() - started
        self._got += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._got > self._most:
            raise self._refused(_too_long(self._most))
        return message

    def _refused(self, why: ProblemError) -> ProblemError:
        self.refusal = why
        return why


def _too_long(most: int) -> ProblemError:
    return ProblemError(
        413,
        "too-large",
        f"this request is longer than the {most} bytes allowed",
        where="body",
        mend="upload fewer images at once",
        headers={"Connection": "close"},
    )


def _too_slow(traffic: Traffic) -> ProblemError:
    return ProblemError(
        408,
        "too-slow",
        f"this request came in at less than {traffic.least_rate} bytes per second",
        where="body",
        mend="upload fewer images at once, or over a faster line",
        headers={"Connection": "close"},
    )
