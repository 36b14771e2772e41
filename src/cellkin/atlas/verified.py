"""What verifying found, kept in the atlas folder beside what it was found about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellkin.atlas.opening import MANIFEST, SCHEMA, VERIFICATION
from cellkin.atlas.signed import SIGNATURE
from cellkin.core.artifacts import file_sha256, write_json
from cellkin.core.errors import ArtifactError
from cellkin.core.manifests import read_manifest
from cellkin.core.signals import interrupts_wait


def keep_verification(folder: str | Path, result: Mapping[str, Any]) -> Path:
    """Write `verification.json` into an atlas folder and list it in the manifest.

    The manifest forgets an older result first and learns of the new one last: whoever opens the
    atlas in between, or after the machine has stopped there, finds it whole and not verified.

    Args:
        result: as `cellkin.proving.proving.verify` returns it.

    Raises:
        ArtifactError: the folder is no atlas, damaged, or not the one that was verified.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder).expanduser()
    manifest = read_manifest(folder, MANIFEST, kind="atlas", schema=SCHEMA)
    if manifest["id"] != result.get("atlas"):
        raise ArtifactError(
            "this is not the atlas that was verified",
            where=f"{folder} is {manifest['id'][:8]}, verified was {str(result.get('atlas'))[:8]}",
            mend="cellkin verify ATLAS DATA --out DIR --into-atlas",
        )
    path = folder / VERIFICATION
    others = {name: of for name, of in manifest["files"].items() if name != VERIFICATION}
    with interrupts_wait():
        (folder / (MANIFEST + SIGNATURE)).unlink(missing_ok=True)  # of the manifest as it was
        write_json(folder / MANIFEST, {**manifest, "files": others})
        write_json(path, dict(result))
        entry = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        write_json(folder / MANIFEST, {**manifest, "files": {**others, VERIFICATION: entry}})
    return path
