"""Many small images on one sheet, numbered, for a person to look through."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cellkin.core.arrays import Array
from cellkin.core.artifacts import write_bytes
from cellkin.report.canvas import font_file, printable

THUMB = 112  # pixels
GAP = 10
LINE = 20  # pixels of text under an image
WIDEST = 14  # images in a row


def contact_sheet(
    images: Sequence[Array], captions: Sequence[str], path: str | Path, *, title: str
) -> Path:
    """Write a PNG with all images in rows, each under its caption's number, and the title on top.

    Args:
        images: N square uint8 RGB images, N at least 1. captions: N short texts.

    Raises:
        OutputError: the file cannot be written.
    """
    columns = min(WIDEST, max(int(np.ceil(np.sqrt(1.6 * len(images)))), 5))
    width = GAP + columns * (THUMB + GAP)
    heading = textwrap.wrap(printable(title), max(int(width / 9.5), 20))
    top = 2 * GAP + 22 * len(heading)
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (width, top + rows * (THUMB + LINE + GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.multiline_text((GAP, GAP), "\n".join(heading), "#1b1f24", _font(16), spacing=5)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left = GAP + i % columns * (THUMB + GAP)
        upper = top + i // columns * (THUMB + LINE + GAP)
        sheet.paste(Image.fromarray(image).resize((THUMB, THUMB)), (left, upper))
        pen.text((left, upper + THUMB + 2), _fitting(caption), "#57606a", _font(11))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return write_bytes(Path(path), buffer.getvalue())


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_file(), size)


def _fitting(text: str) -> str:
    """The end of a caption, which tells images apart, as far as it fits under one of them."""
    text = printable(text)
    while len(text) > 1 and _font(11).getlength(text) > THUMB:
        text = "…" + text[2:]
    return text
