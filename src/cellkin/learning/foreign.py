"""An encoder of a stranger asks for nothing but what is in its folder and named by its manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cellkin.core.errors import ArtifactError

WEIGHTS = "weights.safetensors"


def require_name(backbone: object, folder: Path) -> None:
    """Refuse the name of a backbone that would be fetched from a hub.

    Raises:
        ArtifactError: it would.
    """
    if re.fullmatch(r"[A-Za-z0-9_.]+", str(backbone)) is None:
        raise _foreign(f"a network from elsewhere: {str(backbone)[:80]!r}", folder)


def require_own(
    settings: Mapping[str, Any], named: Iterable[str], folder: Path, files: Iterable[str]
) -> None:
    """Refuse an encoder that reads what its manifest does not name.

    Args:
        named: the files that the manifest names. files: those that hold its network.

    Raises:
        ArtifactError: it does.
    """
    wanted = {*files, *settings.get("documents", ())}
    if (folder / WEIGHTS).is_file():
        wanted.add(WEIGHTS)
    if foreign := sorted(wanted - set(named)):
        raise _foreign(f"{foreign[0][:80]!r}, which its manifest does not name", folder)


def _foreign(what: str, folder: Path) -> ArtifactError:
    return ArtifactError(
        f"this encoder asks for {what}",
        where=folder,
        mend="use an encoder of a source that you know",
    )
