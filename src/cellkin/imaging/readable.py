"""Which TIFFs are read, and the reason why another one is not."""

from __future__ import annotations

from typing import NamedTuple

from cellkin.core.errors import ImageError
from cellkin.imaging import tiff
from cellkin.imaging.checks import grey
from cellkin.imaging.tiff import Page, first_page

DIFFERENCES = {5, 8, 32946, 34925, 50000}  # compressions that a predictor may stand before
READ = DIFFERENCES | {1, 6, 7, 32773}
LOSSY = {6, 7}
COMPRESSIONS = {
    2: "CCITT fax", 3: "CCITT fax", 4: "CCITT fax", 22610: "JPEG XR", 33003: "JPEG 2000",
    33004: "JPEG 2000", 33005: "JPEG 2000", 34676: "SGI LogLuv", 34677: "SGI LogLuv",
    34712: "JPEG 2000", 34887: "LERC", 34892: "lossy raw JPEG", 34933: "PNG", 34934: "JPEG XR",
    50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL", 65000: "EER", 65001: "EER", 65002: "EER",
}  # fmt: skip
COLOURS = {
    2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "LAB", 9: "ICC LAB",
    10: "ITU LAB", 32803: "raw camera", 32844: "LogL", 32845: "LogLuv", 34892: "raw camera",
}  # fmt: skip
FORMATS = {2: "signed integers", 3: "floating-point numbers", 4: "values of no stated kind"}

AS_RGB = "export it in RGB, with 8 bits per channel"
SCALE = (
    "scale it to 8 bits per channel where the value of full light is known (in the program that "
    "made it), and export it in RGB"
)
ONE_PAGE = "export the one that you mean as a file of its own"
MERGE = (
    "if they are the red, green and blue of one image, merge them and save that (in ImageJ: Image "
    "> Type > RGB Color, then Save As > Tiff); else give the original colour image"
)


class Reason(NamedTuple):
    """Why a TIFF is not read, after "this TIFF", and what to do about it."""

    what: str
    mend: str


def only_page(data: bytes, where: str) -> Page:
    """The one page of a TIFF whose pixels can be read.

    Raises:
        ImageError: there are several, it is damaged, or of a kind that is not read.
    """
    page, count, all_grey = first_page(data, where)
    if count > 1:
        more = " or more" if count == tiff.MOST_PAGES else ""
        raise ImageError(
            f"this TIFF is ambiguous: it holds {count}{more} {'grey ' if all_grey else ''}pages "
            "or frames, not one image",
            where=where,
            mend=MERGE if all_grey else ONE_PAGE,
        )
    if page.grey:
        raise grey(where)
    reason = _colours(page) or _samples(page) or _packing(page)
    if reason is not None:
        raise ImageError(f"this TIFF {reason.what}", where=where, mend=reason.mend)
    return page


def _colours(page: Page) -> Reason | None:
    kind, samples = page.value(tiff.PHOTOMETRIC, -1), page.value(tiff.SAMPLES)
    if kind == -1 and page.value(tiff.COMPRESSION) != 6:
        return Reason("does not say what its samples mean: tag 262 is missing", AS_RGB)
    if kind in (0, 1):
        return Reason(
            f"says that its {samples} channels are grey (tag 262), not red, green and blue",
            "write RGB (2) there, or export it as PNG in RGB",
        )
    if kind not in (-1, 2, 3, 5, 6):
        name = COLOURS.get(kind, f"kind {kind} of tag 262")
        return Reason(f"holds colours ({name}) that cannot be turned into RGB", AS_RGB)
    if kind == 3 and max(page.values(tiff.COLOUR_MAP), default=0) < 256:
        return Reason(
            "has a palette whose 16-bit values are all below 256: almost black, or of 8 bits "
            "against the format",
            AS_RGB,
        )
    return None


def _samples(page: Page) -> Reason | None:
    bits, form = page.bits, page.value(tiff.FORMAT)
    kind = COLOURS.get(page.value(tiff.PHOTOMETRIC), "")
    if form != 1:
        name = FORMATS.get(form, "complex numbers")
        return Reason(f"holds {name} of {bits} bits, and not which of them is full light", SCALE)
    if bits > 16:
        return Reason(f"holds integers of {bits} bits, and not which of them is full light", SCALE)
    if bits not in (8, 16) and kind != "palette":
        return Reason(f"holds samples of {bits} bits, packed; only 8 and 16 are read", AS_RGB)
    if bits > 8 and (kind != "RGB" or page.value(tiff.SAMPLES) > 4):
        return Reason(
            f"has {bits} bits per channel in {kind} of {page.value(tiff.SAMPLES)} samples; more "
            "than 8 bits per channel are read in RGB and RGBA only",
            AS_RGB,
        )
    return None


def _packing(page: Page) -> Reason | None:
    compression, predictor = page.value(tiff.COMPRESSION), page.value(tiff.PREDICTOR)
    name = COMPRESSIONS.get(compression, f"method {compression}")
    again = "export it again without compression, or with LZW or deflate"
    if compression not in READ or (page.bits > 8 and compression in LOSSY):
        return Reason(f"is compressed by a method that is not read: {name}", again)
    if predictor != 1 and (predictor != 2 or compression not in DIFFERENCES):
        return Reason(
            f"asks for a predictor ({predictor}, tag 317) that its compression does not have", again
        )
    there = len(page.values(tiff.TILES) or page.values(tiff.STRIPS))
    if there != page.parts_needed():
        return Reason(
            f"is damaged: it holds {there} strips or tiles, not {page.parts_needed()}",
            "copy it again from its source, or export it again",
        )
    return None
