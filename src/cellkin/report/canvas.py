"""Pictures without global state: `Figure` objects, safe text, and files that appear whole."""

from __future__ import annotations

import base64
import io
import textwrap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from cellkin.core.arrays import Array
from cellkin.core.artifacts import write_bytes

if TYPE_CHECKING:  # matplotlib takes long to import, and only figures need it
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

FONT = "DejaVu Sans"  # comes with matplotlib, so a picture is the same on every machine
DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """A white figure of so many inches that no pyplot state knows about."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def font_file() -> str:
    """Where the font of all pictures lies."""
    from matplotlib import get_data_path

    return str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@cache
def _font() -> FT2Font:
    from matplotlib.ft2font import FT2Font

    return FT2Font(font_file())


def printable(text: str, width: int = 0, lines: int = 3) -> str:
    """`text` for a figure, wrapped to so many lines; what the font cannot draw becomes "?"."""
    known = "".join(c if c.isprintable() and _font().get_char_index(ord(c)) else "?" for c in text)
    if not width:
        return known
    return "\n".join(textwrap.wrap(known, width, max_lines=lines, placeholder=" …"))


def write_figure(figure: Figure, path: Path, dpi: int = DPI) -> Path:
    """Write a PNG or SVG, by the name, atomically; the same figure gives the same bytes, no
    version, no time in it.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib import rc_context

    buffer, kind = io.BytesIO(), path.suffix[1:].lower()
    nothing = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "cellkin"}):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=nothing)
    return write_bytes(path, buffer.getvalue())


def image_bytes(image: Array, *, lossless: bool, small: bool = False) -> tuple[str, bytes]:
    """Media type and bytes of a uint8 RGB image: PNG, or JPEG where it only illustrates; `small`
    where there are many.
    """
    buffer, picture = io.BytesIO(), Image.fromarray(image)
    if lossless:
        picture.save(buffer, "PNG")
        return "image/png", buffer.getvalue()
    how = {"quality": 72, "subsampling": 2} if small else {"quality": 90, "subsampling": 0}
    picture.save(buffer, "JPEG", **how)
    return "image/jpeg", buffer.getvalue()


def data_uri(image: Array, *, lossless: bool, small: bool = False) -> str:
    """A uint8 RGB image inside a page."""
    kind, data = image_bytes(image, lossless=lossless, small=small)
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
