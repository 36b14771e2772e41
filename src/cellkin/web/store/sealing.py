"""A key outside the database: it seals the end of the log, so that whoever owns the database alone
cannot make another log.
"""

from __future__ import annotations

import hashlib
import hmac
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cellkin.core.errors import ArtifactError

SHORTEST = 32  # bytes of a key


@dataclass(frozen=True)
class AuditKey:
    """A secret that seals the number and hash of the last entry (HMAC-SHA-256)."""

    secret: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> AuditKey:
        """The key in a file.

        Raises:
            ArtifactError: there is none, it is too short, or others may read it.
        """
        try:
            secret, mode = path.expanduser().read_bytes(), path.expanduser().stat().st_mode
        except OSError as error:
            raise ArtifactError(
                f"the key of the log cannot be read: {error.strerror}",
                where=path,
                mend="make one: (umask 077; head -c 32 /dev/urandom > FILE), and keep a copy",
            ) from error
        if len(secret) < SHORTEST:
            raise ArtifactError(
                f"a key of the log has {SHORTEST} bytes at least, this one has {len(secret)}",
                where=path,
                mend="make one: (umask 077; head -c 32 /dev/urandom > FILE)",
            )
        if stat.S_IMODE(mode) & 0o077:
            raise ArtifactError(
                "others than its owner may use this key", where=path, mend=f"chmod 600 {path}"
            )
        return cls(secret)

    def seal(self, number: int, hash_: str) -> str:
        """The seal of an entry as the last one of the log, hex."""
        said = f"cellkin log {number} {hash_}".encode()
        return hmac.new(self.secret, said, hashlib.sha256).hexdigest()

    def holds(self, number: int, hash_: str, seal: str | None) -> bool:
        """Whether this is that seal."""
        return seal is not None and hmac.compare_digest(self.seal(number, hash_), seal)
