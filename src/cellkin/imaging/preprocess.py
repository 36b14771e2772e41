"""The one way of preparing an image: what training, deciding, explaining and drawing all see.

Centre-crop to a square, resize with antialiasing, sharpen where the recipe says so (section 5.1),
z-score (section 4 of the paper). Sharpening comes after the resize: the blur is then measured in
pixels of what the network sees, whatever camera and magnification took the image. Mean and
standard deviation are in units of [0, 255] per RGB channel; they are fitted on the training images,
or belong to the weights that were started from. They are part of the feature space's identity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from cellkin.core.arrays import Array, Bytes, Ints, Singles
from cellkin.core.errors import DataError, ImageError, RecipeError, did_you_mean
from cellkin.imaging.canonical import VIEWS, canonical
from cellkin.imaging.checks import require_rgb
from cellkin.imaging.outline import alone
from cellkin.imaging.sharpening import unsharpen

Triple = tuple[float, float, float]

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Ways of resizing; Pillow widens each kernel when it shrinks, which is the antialiasing."""

LITE0_MEAN: Triple = (127.0, 127.0, 127.0)
LITE0_STD: Triple = (128.0, 128.0, 128.0)
MAX_SIZE = 4096
MIN_SHARPENED = 16
WINDOWS = (1.0, 1000.0)  # micrometres
CHUNK = 64


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture that a `Preprocessor` has made already: it is never prepared again.

    Attributes:
        name: what to call it. image: (S, S, 3) uint8 RGB.
    """

    name: str
    image: Bytes


@dataclass(frozen=True, kw_only=True)
class Preprocessor:
    """Deterministic preparation of RGB images.

    Attributes:
        mean: per channel, in [0, 255]. std: per channel, above 0, in the same units.
        size: side of the prepared square in pixels.
        interpolation: one of `INTERPOLATIONS`.
        unsharpen: sharpen by the measured blur, see `cellkin.imaging.sharpening`.
        window: side in micrometres of the square that is cut from the middle, whatever microscope
            and camera took the picture; None takes all of a picture, whatever it shows.
        view: "raw", or one white and one strength of stain, see `cellkin.imaging.canonical`.
        alone: show the cell alone on a neutral ground, see `cellkin.imaging.outline`.

    Raises:
        RecipeError: an impossible value.
    """

    size: int = 224
    mean: Triple
    std: Triple
    interpolation: str = "bicubic"
    unsharpen: bool = False
    window: float | None = None
    view: str = "raw"
    alone: bool = False

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= MAX_SIZE:
            raise _impossible("size", self.size, f"a whole number from 1 to {MAX_SIZE}")
        for key, known in (("interpolation", INTERPOLATIONS), ("view", VIEWS)):
            if (given := getattr(self, key)) not in known:
                near = did_you_mean(str(given), known)
                raise _impossible(key, given, f"one of {', '.join(known)}; {near}")
        for key in ("unsharpen", "alone"):
            if type(getattr(self, key)) is not bool:
                raise _impossible(key, getattr(self, key), "true or false")
        if self.unsharpen and self.size < MIN_SHARPENED:
            raise _impossible("size", self.size, f"at least {MIN_SHARPENED} to tell the focus")
        if self.window is not None:
            least, most = WINDOWS
            if type(self.window) is not float or not least <= self.window <= most:
                raise _impossible("window", self.window, f"{least:g} to {most:g} micrometres")
        mean, std = _triple("mean", self.mean), _triple("std", self.std)
        if not all(0 <= value <= 255 for value in mean):
            raise _impossible("mean", mean, "three numbers in [0, 255]")
        if not all(value > 0 for value in std):
            raise _impossible("std", std, "three numbers above 0")
        if max(mean) <= 1 and max(std) < 1:
            raise _impossible("mean and std", (mean, std), "in units of [0, 255]: multiply by 255")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    @property
    def um_per_pixel(self) -> float | None:
        """Micrometres per pixel of what it makes; None where it takes pictures whole."""
        return None if self.window is None else self.window / self.size

    def prepare(self, rgb: Bytes, um_per_pixel: float | None = None, *, where: str = "") -> Bytes:
        """Centre-crop to a square (offsets rounded down), resize to `size`, see it in the canonical
        `view`, show the cell alone and sharpen where these are on.

        Args:
            rgb: (H, W, 3) uint8 RGB.
            um_per_pixel: micrometres per pixel; needed, and used, where there is a `window`.
            where: what to call the image in messages.

        Returns:
            (size, size, 3) uint8 RGB, C-contiguous, its own memory. An image that is already of
            this size is copied as it is, so preparing twice equals preparing once, but for `view`,
            `alone` and `unsharpen`: they would begin again with the rest of the cast and blur.

        Raises:
            ImageError: the array is no RGB image; or there is a `window`, and the scale of the
                image is not known or the window reaches over its edge.
            NoCellError: the cell is to be shown `alone`, and none is found.
        """
        require_rgb(rgb, "given to the preprocessor")
        where = where or "the array given"
        square = middle_square(rgb)
        if self.window is not None:
            square = _windowed(square, self.window, um_per_pixel, where)
        prepared = canonical(self._resized(square), self.view)
        if self.alone:
            prepared = alone(prepared, square, where)
        return unsharpen(prepared) if self.unsharpen else prepared

    def square_of(
        self, width: int, height: int, um_per_pixel: float | None
    ) -> tuple[int, int, int]:
        """Left, top and side, in pixels of an image of this size, of the square that it sees."""
        side = whole = min(width, height)
        if self.window is not None and um_per_pixel is not None:
            side = max(min(round(self.window / um_per_pixel), whole), 1)
        inner = (whole - side) // 2
        return (width - whole) // 2 + inner, (height - whole) // 2 + inner, side

    def prepare_many(self, images: Sequence[Bytes]) -> Bytes:
        """Prepare N images, each (H, W, 3) uint8 RGB of any size: (N, size, size, 3) uint8.

        Raises:
            ImageError: one of the arrays is no RGB image.
        """
        prepared = np.empty((len(images), self.size, self.size, 3), np.uint8)
        for row, image in zip(prepared, images, strict=True):
            row[:] = self.prepare(image)
        return prepared

    def normalize(self, prepared: Bytes) -> Singles:
        """Z-score: (value - mean) / std per channel.

        Args:
            prepared: (N, S, S, 3) uint8 RGB with S = `size`, as `prepare_many` makes them.

        Returns:
            (N, 3, S, S) float32 that lies channels last in memory, as the networks read it. Each of
            the 256 values per channel is computed in float64 and rounded once, so that the result
            is the same on every machine.

        Raises:
            DataError: another shape or type.
        """
        _require_prepared(prepared, self.size)
        tables = ((np.arange(256)[:, None] - self.mean) / self.std).astype(np.float32)
        scores = np.empty(prepared.shape, np.float32)
        for image, score in zip(prepared, scores, strict=True):
            cv2.LUT(image, tables[None], dst=score)
        return scores.transpose(0, 3, 1, 2)

    def identity(self) -> dict[str, Any]:
        """All that decides what `prepare` and `normalize` make, as plain data to hash and save.

        `unsharpen`, `window`, `view` and `alone` are there only when they are on, so spaces without
        keep their names.
        """
        return {
            **({"unsharpen": True} if self.unsharpen else {}),
            **({} if self.window is None else {"window": self.window}),
            **({} if self.view == "raw" else {"view": self.view}),
            **({"alone": True} if self.alone else {}),
            "crop": "centre",
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "size": self.size,
            "std": list(self.std),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessor:
        """The preprocessor whose `identity` this is.

        Raises:
            RecipeError: a key is missing or unknown, or a value impossible.
        """
        known = {"crop", "interpolation", "mean", "size", "std"}
        optional = {"unsharpen", "window", "view", "alone"}
        given = set(data) - optional if isinstance(data, Mapping) else set()
        if given != known or data["crop"] != "centre":
            raise _impossible("the saved form", data, f"{', '.join(sorted(known))}; crop 'centre'")
        return cls(**{key: value for key, value in data.items() if key != "crop"})

    @classmethod
    def fit(cls, prepared: Bytes, size: int = 224, interpolation: str = "bicubic") -> Preprocessor:
        """The preprocessor with mean and standard deviation of the training images.

        Args:
            prepared: (N, size, size, 3) uint8 RGB, N at least 1: the training images alone.

        Returns:
            mean and population standard deviation per channel over all pixels, exact up to the
            last rounding: the 256 values are counted, so order and chunks do not matter.

        Raises:
            DataError: another shape or type, no image, or a channel that is constant.
        """
        packaged_lite0(size, interpolation)  # impossible settings are said before the data are read
        _require_prepared(prepared, size, least=1)
        counts = _counts(prepared)
        if (np.count_nonzero(counts, axis=1) < 2).any():
            raise DataError(
                "a colour channel is the same in every pixel of the training images",
                where=f"{len(prepared)} images; distinct values in red, green, blue: "
                f"{np.count_nonzero(counts, axis=1).tolist()}",
                mend="train on colour images of stained cells",
            )
        moments = [_mean_std(row) for row in counts]
        mean, std = zip(*moments, strict=True)
        return cls(
            size=size,
            mean=_triple("mean", mean),
            std=_triple("std", std),
            interpolation=interpolation,
        )

    def _resized(self, square: Bytes) -> Bytes:
        if len(square) == self.size:
            return np.array(square, order="C")
        image = Image.fromarray(np.ascontiguousarray(square))
        shape = (self.size, self.size)
        return np.array(image.resize(shape, INTERPOLATIONS[self.interpolation]))


def packaged_lite0(size: int = 224, interpolation: str = "bicubic") -> Preprocessor:
    """The preprocessor that belongs to the packaged EfficientNet-Lite0: (255 x - 127) / 128."""
    return Preprocessor(size=size, mean=LITE0_MEAN, std=LITE0_STD, interpolation=interpolation)


def middle_square(image: Bytes) -> Bytes:
    """The middle square of an image or a mask (H, W, ...) uint8, offsets rounded down: a view."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _windowed(square: Bytes, window: float, um_per_pixel: float | None, where: str) -> Bytes:
    """The middle of a square, so many micrometres wide: a view. A pixel too few is rounding."""
    if um_per_pixel is None:
        raise ImageError(
            "the scale of this image is not known: it says no micrometres per pixel",
            where=where,
            mend=f"this encoder sees {window:g} micrometres: cut the cell from its field (cellkin "
            "find --crops), or say the scale (--mpp; a column um_per_pixel in labels.csv)",
        )
    side = round(window / um_per_pixel)
    if side > len(square) + 1:
        raise ImageError(
            f"this image shows {len(square) * um_per_pixel:.1f} micrometres, "
            f"the encoder sees {window:g}",
            where=where,
            mend=f"cut the cell from its field: cellkin find --crops DIR --window {window:g}",
        )
    start = (len(square) - min(side, len(square))) // 2
    return square[start : start + max(side, 1), start : start + max(side, 1)]


def _counts(prepared: Bytes) -> Ints:
    """(3, 256) how often each value occurs in each channel."""
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(prepared), CHUNK):
        block = prepared[start : start + CHUNK]
        for channel in range(3):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    return counts


def _mean_std(counts: Ints) -> tuple[float, float]:
    """Mean and population standard deviation by integers: nothing cancels."""
    n = int(counts.sum())
    total = sum(value * int(count) for value, count in enumerate(counts))
    squares = sum(value * value * int(count) for value, count in enumerate(counts))
    return total / n, math.sqrt((n * squares - total * total) / (n * n))


def _triple(field: str, values: Any) -> Triple:
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError):
        raise _impossible(field, values, "three numbers: red, green, blue") from None
    if not all(math.isfinite(value) for value in (red, green, blue)):
        raise _impossible(field, values, "three finite numbers")
    return red, green, blue


def _impossible(field: str, value: object, wanted: str) -> RecipeError:
    return RecipeError(
        f"{field} of the preprocessor is impossible",
        where=f"{field} = {value!r}",
        mend=f"give {wanted}".rstrip("; "),
    )


def _require_prepared(prepared: Array, size: int, *, least: int = 0) -> None:
    shape: tuple[int, ...] = getattr(prepared, "shape", ())
    kind = str(getattr(prepared, "dtype", type(prepared).__name__))
    if kind != "uint8" or shape[1:] != (size, size, 3) or shape[0] < least:
        raise DataError(
            f"these are no prepared images: shape {shape}, {kind}",
            where="the array given to the preprocessor",
            mend=f"prepare them first: (N, {size}, {size}, 3) uint8 RGB, N at least {least}",
        )
