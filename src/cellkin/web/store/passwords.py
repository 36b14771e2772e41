"""Which passwords are taken, and one-time codes of a second factor."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from urllib.parse import quote

from cellkin.web.store.errors import Refused

SHORTEST = 12
LONGEST = 256  # characters of a password: hashing more would be work for an attacker to give us
LOOKED_AT = 72  # characters whose guesses are counted; more make no password weaker
WEAK = 2  # of zxcvbn's scores 0 to 4: 10^6 to 10^8 guesses are enough
STEP = 30  # seconds that a code is good for
LATE = 1  # steps before and after that a clock may be off


def check_password(name: str, password: str) -> None:
    """Refuse a password that is too short, holds the name, or is among the first that are tried:
    common ones, words, dates, rows of keys (counted offline by zxcvbn).

    Raises:
        Refused: it is.
    """
    if not SHORTEST <= len(password) <= LONGEST or name.lower() in password.lower():
        raise Refused(
            "this password is too easy to guess, or too long",
            where=name,
            mend=f"use {SHORTEST} to {LONGEST} characters that do not hold the name",
        )
    from zxcvbn import zxcvbn

    if zxcvbn(password[:LOOKED_AT], user_inputs=[name, "cellkin"])["score"] < WEAK:
        raise Refused(
            "this password is among the first that are tried",
            where=name,
            mend="use several words that have nothing to do with each other",
        )


def new_secret() -> str:
    """A secret of a second factor, base32, 160 bits."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def address_of(name: str, secret: str) -> str:
    """What an authenticator reads (otpauth://)."""
    return f"otpauth://totp/cellkin:{quote(name)}?secret={secret}&issuer=cellkin"


def code_at(secret: str, step: int) -> str:
    """The code of a step of time (RFC 6238, SHA-1, 6 digits)."""
    digest = hmac.new(base64.b32decode(secret), step.to_bytes(8), hashlib.sha1).digest()
    start = digest[-1] & 15
    number = int.from_bytes(digest[start : start + 4]) & 0x7FFFFFFF
    return f"{number % 10**6:06d}"


def step_of(secret: str, code: str, seconds: float, used: int) -> int | None:
    """The step of time that a code belongs to, None where it is wrong, late, or was used."""
    now = int(seconds // STEP)
    for step in range(now - LATE, now + LATE + 1):
        if step > used and hmac.compare_digest(code_at(secret, step), code.strip()):
            return step
    return None
