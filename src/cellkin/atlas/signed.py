"""Signed atlases: a laboratory that trusts its own keys opens atlases of these alone.

The signature (Ed25519) is detached: `atlas.json.sig` beside the manifest, over its very bytes,
which hold the SHA-256 of every other file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cellkin.core.artifacts import TRUST, write_bytes
from cellkin.core.errors import ArtifactError, OutputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SIGNATURE = ".sig"


def new_key(path: Path) -> Path:
    """Make a key, its owner's alone, and its public half `PATH.pub`; returns that.

    Raises:
        OutputError: there is something at one of the two, or they cannot be written.
    """
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = path.with_name(f"{path.name}.pub")
    for one in (path, public):
        if one.exists():
            raise OutputError("there is a key here already", where=one, mend="give another name")
    made, pem = Ed25519PrivateKey.generate(), forms.Encoding.PEM
    secret = made.private_bytes(pem, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    told = forms.PublicFormat.SubjectPublicKeyInfo
    return write_bytes(public, made.public_key().public_bytes(pem, told))


def sign(manifest: Path, key: Path) -> Path:
    """Sign a manifest; returns the file of the signature.

    Raises:
        ArtifactError: this is no key. OutputError: the folder cannot be written.
    """
    found = _private(key)
    return write_bytes(_beside(manifest), found.sign(manifest.read_bytes()))


def require_signed(manifest: Path, trusted: Sequence[Path]) -> None:
    """Refuse an atlas that none of the trusted keys signed; nothing is asked where there are none.

    Raises:
        ArtifactError: it was not signed, or by another key, or changed since; or a key is none.
    """
    if not trusted:
        return
    from cryptography.exceptions import InvalidSignature

    beside = _beside(manifest)
    if not beside.is_file():
        raise ArtifactError(
            "this atlas is not signed, and only signed ones are trusted here",
            where=beside,
            mend="cellkin sign ATLAS --key KEY, by whoever answers for it",
        )
    signature, data = beside.read_bytes()[:1024], manifest.read_bytes()
    for key in map(_public, trusted):
        try:
            key.verify(signature, data)
        except InvalidSignature:
            continue
        return
    raise ArtifactError(
        "none of the trusted keys signed this atlas as it is",
        where=manifest,
        mend="give the key of whoever signed it (--trust KEY.pub), or sign it anew",
    )


def trusted() -> tuple[Path, ...]:
    """The keys that this process trusts."""
    return tuple(Path(one) for one in os.environ.get(TRUST, "").split(os.pathsep) if one)


def _beside(manifest: Path) -> Path:
    return manifest.with_name(manifest.name + SIGNATURE)


def _private(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        found = load_pem_private_key(path.expanduser().read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise _no_key(path, error) from error
    if not isinstance(found, Ed25519PrivateKey):
        raise _no_key(path, ValueError("not of Ed25519"))
    return found


def _public(path: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        found = load_pem_public_key(path.expanduser().read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise _no_key(path, error) from error
    if not isinstance(found, Ed25519PublicKey):
        raise _no_key(path, ValueError("not of Ed25519"))
    return found


def _no_key(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"this is no key for atlases: {str(error)[:120]}",
        where=path,
        mend="cellkin sign --new-key KEY makes KEY (to sign with) and KEY.pub (to trust)",
    )
