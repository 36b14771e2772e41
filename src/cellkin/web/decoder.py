"""The guarded process that decodes: bytes of strangers on stdin, prepared pictures on stdout.

It is a program of its own (`python -m cellkin.web.decoder`) without the network, the store or the
atlas: whatever a hostile image does to it, it can be killed and started again (`cellkin.web.frames`
says how it is talked to).
"""

from __future__ import annotations

import resource
from typing import Any

from PIL import Image

from cellkin.core.arrays import Bytes
from cellkin.imaging.decode import Limits, decode
from cellkin.imaging.formats import kind_of
from cellkin.imaging.glimpse import glimpse
from cellkin.imaging.preprocess import Preprocessor
from cellkin.imaging.scale import png_of, um_per_pixel
from cellkin.web.frames import Frame, answer_all
from cellkin.web.sandbox import confine, held

MEMORY = 3 * 2**30  # of address space; an image of 40 million pixels takes a tenth of it


def _answer(head: dict[str, Any], data: bytes) -> Frame:
    """What was wanted of an image, or what this process cannot do (`sandbox.held`)."""
    if head["want"] == "held":
        return {"held": held()}, b""
    rgb = decode(data, name=head["name"], limits=Limits(**head["limits"]))
    return WANTED[head["want"]](head, data, rgb)


def _prepared(head: dict[str, Any], data: bytes, rgb: Bytes) -> Frame:
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


def _png(_head: dict[str, Any], _data: bytes, rgb: Bytes) -> Frame:
    """All pixels, upright, as lossless PNG."""
    return {}, png_of(rgb)


WANTED = {"prepared": _prepared, "png": _png}


def _guard() -> bool:
    """Bounds that the kernel keeps: memory, no files, no core dump, and the sandbox where there is
    one; whether there is.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return confine()


def main() -> None:
    """Answer frame after frame until stdin ends."""
    Image.init()  # what PIL loads for each format: nothing can be loaded later
    _guard()
    answer_all(_answer)


if __name__ == "__main__":
    main()
