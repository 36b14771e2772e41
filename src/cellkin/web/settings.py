"""What a workstation is set to: address, people, and the limits of uploads."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from cellkin.core.errors import RecipeError
from cellkin.imaging.decode import Limits
from cellkin.web.store import Rules

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
KIBIBYTE = 2**10
MEBIBYTE = 2**20
POSITIVE = (
    *("session_minutes", "max_files", "max_upload_bytes", "max_file_bytes", "max_unpacked_bytes"),
    *("max_pixels", "zip_ratio", "decode_seconds", "upload_seconds", "print_seconds", "workers"),
)
LOOKED_AT = Rules(least_view=0.8)


@dataclass(frozen=True)
class Traffic:
    """How many connections there may be, and how slow one may be.

    Attributes:
        connections: in all. per_address: of one address (of one /64 network in IPv6).
        header_seconds: until the header of a request is whole, from the connection or the answer
            before.
        grace_seconds: patience with a body, or with a client that takes its answer, beside
        least_rate: bytes per second on average.

    Raises:
        RecipeError: a value is not above 0.
    """

    connections: int = 512
    per_address: int = 100
    header_seconds: float = 15.0
    grace_seconds: float = 15.0
    least_rate: int = 32 * KIBIBYTE

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise RecipeError(
                    f"{name} is impossible", where=f"{name} = {value}", mend="give a number above 0"
                )

    def patience(self, size: int) -> float:
        """Seconds in which so many bytes must have passed."""
        return self.grace_seconds + size / self.least_rate


@dataclass(frozen=True)
class Waiting:
    """How long each kind of work waits for its turn, in seconds."""

    reading: float = 5.0
    writing: float = 15.0
    login: float = 10.0
    reports: float = 30.0
    evidence: float = 30.0
    uploads: float = 60.0


@dataclass(frozen=True)
class Settings:
    """Settings of one workstation; the defaults are safe for one person on one machine.

    Attributes:
        host, port: where it listens; without accounts only on the loopback interface.
        hosts: names and addresses it answers to beside its own, without port ("lab.example.org").
        accounts: people sign in; without, one local reviewer acts and nobody else can reach it.
        secure_cookies: cookies travel over TLS alone; set behind a proxy that speaks TLS.
        second_factor: admins without one do no more than reviewers.
        session_minutes: a session ends this long after it was last used.
        max_files: images in one upload, those inside a zip counted.
        max_upload_bytes: of one upload. max_file_bytes: of one image, unpacked.
        max_unpacked_bytes: of all that one upload unpacks to.
        max_pixels: width times height of one image, read before anything is decoded.
        zip_ratio: unpacked over packed size of one member of a zip.
        decode_seconds: time in which one image is decoded, or refused.
        upload_seconds: of decoding, for all images of one upload together.
        print_seconds: time in which a report is made a PDF.
        workers: processes that decode, each with one image at a time.
        evidence_bytes: memory for evidence that was computed already. pdf_bytes: for PDFs.
        traffic: how many connections there may be, and how slow one may be.
        waiting: how long each kind of work waits for its turn.
        rules: what is asked of reviewers; by default a held cell is looked at for most of a second.

    Raises:
        RecipeError: a value is impossible, or the address is open to others without accounts.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    hosts: tuple[str, ...] = ()
    accounts: bool = False
    secure_cookies: bool = False
    second_factor: bool = False
    session_minutes: int = 30
    max_files: int = 1000
    max_upload_bytes: int = 256 * MEBIBYTE
    max_file_bytes: int = 32 * MEBIBYTE
    max_unpacked_bytes: int = 512 * MEBIBYTE
    max_pixels: int = 40_000_000
    zip_ratio: int = 50
    decode_seconds: float = 20.0
    upload_seconds: float = 120.0
    print_seconds: float = 60.0
    workers: int = 2
    evidence_bytes: int = 64 * MEBIBYTE
    pdf_bytes: int = 32 * MEBIBYTE
    traffic: Traffic = field(default_factory=Traffic)
    waiting: Waiting = field(default_factory=Waiting)
    rules: Rules = LOOKED_AT

    def __post_init__(self) -> None:
        for name in POSITIVE:
            self._require_positive(name)
        if not 0 <= self.port <= 65535:
            raise RecipeError("no such port", where=f"port = {self.port}", mend="give 1 to 65535")
        if not self.accounts and not is_loopback(self.host):
            raise RecipeError(
                "without accounts this workstation is for one person on this machine",
                where=f"host = {self.host}",
                mend="keep 127.0.0.1, or make people (cellkin users add) and start it with "
                "--accounts",
            )

    def _require_positive(self, name: str) -> None:
        if getattr(self, name) <= 0:
            raise RecipeError(
                f"{name} is impossible",
                where=f"{name} = {getattr(self, name)}",
                mend="give a number above 0",
            )

    @property
    def image_limits(self) -> Limits:
        """How large one image may be."""
        return Limits(max_bytes=self.max_file_bytes, max_pixels=self.max_pixels)

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Names that a request may call this workstation by, in small letters, without port."""
        own = () if self.host in ("0.0.0.0", "::") else (_bracketed(self.host),)
        local = LOCAL_NAMES if is_loopback(self.host) else ()
        return frozenset(name.lower() for name in (*own, *local, *self.hosts))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
