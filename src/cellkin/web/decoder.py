"""The guarded process that decodes: bytes of strangers on stdin, prepared pictures on stdout.

It is a program of its own (`python -m cellkin.web.decoder`) without the network, the store or the
atlas: whatever a hostile image does to it, it can be killed and started again. Frames in both
directions are a line of JSON with a `size`, then so many bytes; nothing is unpickled.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any, BinaryIO

from cellkin.core.arrays import Bytes
from cellkin.core.errors import CellkinError
from cellkin.imaging.decode import Limits, decode
from cellkin.imaging.formats import kind_of
from cellkin.imaging.glimpse import glimpse
from cellkin.imaging.preprocess import Preprocessor
from cellkin.imaging.scale import png_of, um_per_pixel

MEMORY = 3 * 2**30  # of address space; an image of 40 million pixels takes a tenth of it
LONGEST = 64 * 1024  # of a header line


def write_frame(stream: BinaryIO, head: dict[str, Any], body: bytes = b"") -> None:
    """Send a header and its bytes."""
    stream.write(json.dumps({**head, "size": len(body)}).encode() + b"\n")
    stream.write(body)
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next header and its bytes; None at the end of the stream."""
    line = stream.readline(LONGEST)
    if not line.endswith(b"\n"):
        return None
    head: dict[str, Any] = json.loads(line)
    body = stream.read(head["size"])
    return (head, body) if len(body) == head["size"] else None


def _answer(head: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """What was wanted of an image; or why there is none."""
    try:
        rgb = decode(data, name=head["name"], limits=Limits(**head["limits"]))
        return WANTED[head["want"]](head, data, rgb)
    except CellkinError as error:
        return {"what": error.what, "where": error.where, "mend": error.mend}, b""
    except MemoryError:
        mend = "give the crop of one cell"
        return {"what": "this image needs too much memory", "where": "", "mend": mend}, b""


def _prepared(head: dict[str, Any], data: bytes, rgb: Bytes) -> tuple[dict[str, Any], bytes]:
    """The prepared picture as lossless PNG, the whole one at a glimpse, as it lies in memory, and
    what is known of the file.
    """
    um = um_per_pixel(data)
    preprocessor = Preprocessor.from_json(head["preprocessor"])
    prepared, whole = preprocessor.prepare(rgb, um, where=head["name"]), glimpse(rgb)
    png = png_of(prepared)
    height, width = rgb.shape[:2]
    facts = {"kind": kind_of(data, head["name"]), "width": width, "height": height}
    told = {"png": len(png), "whole": whole.shape, "file": {**facts, "um_per_pixel": um}}
    return told, png + whole.tobytes()


def _png(_head: dict[str, Any], _data: bytes, rgb: Bytes) -> tuple[dict[str, Any], bytes]:
    """All pixels, upright, as lossless PNG."""
    return {}, png_of(rgb)


WANTED = {"prepared": _prepared, "png": _png}


def _guard() -> None:
    """Bounds that the kernel keeps: memory, no files, no core dump."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Answer frame after frame until stdin ends."""
    _guard()
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    write_frame(outgoing, {"ready": True})
    while (frame := read_frame(incoming)) is not None:
        write_frame(outgoing, *_answer(*frame))


if __name__ == "__main__":
    main()
