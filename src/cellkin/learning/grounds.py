"""Surroundings swapped between training cells (beyond the paper; off unless a recipe asks for it).

What lies around a cell says where and when it was photographed, and in many data sets that tells
the class. A network whose cells stand among the surroundings of any other cell cannot learn it.
"""

from __future__ import annotations

import numpy as np
import torch

from cellkin.core.arrays import Bools, Bytes, Ints
from cellkin.core.errors import TrainingError
from cellkin.core.progress import Progress, silent
from cellkin.imaging.outline import among, cell_mask


class Grounds:
    """The training cells, and among whose surroundings each may stand.

    Args:
        images: (N, S, S, 3) uint8, prepared. train: positions of the training cells among them.
        share: of the pictures that stand among the surroundings of another training cell; at 0
            no outline is sought.

    Attributes:
        without: how many training cells have no outline: they keep their own surroundings, and
            lend them to none.

    Raises:
        TrainingError: no outline is found in most of them.
    """

    def __init__(
        self, images: Bytes, train: Ints, share: float, *, progress: Progress = silent
    ) -> None:
        self._images, self._share, self.without = images, share, 0
        self._outlines: dict[int, Bytes] = {}
        if share == 0:
            return
        for done, row in enumerate(train.tolist(), start=1):
            mask = cell_mask(np.asarray(images[row]))
            if mask is not None:
                self._outlines[row] = np.packbits(mask)
            progress("finding outlines", done, len(train))
        self.without = len(train) - len(self._outlines)
        if len(self._outlines) < max(len(train) / 2, 2):
            raise TrainingError(
                f"no outline is found in {self.without} of {len(train)} training pictures",
                where="recipe field swap_grounds",
                mend="set swap_grounds = 0: it is for pictures of single stained cells",
            )
        self._lenders = np.array(sorted(self._outlines), np.int64)

    def pictures(self, batch: Ints, part: slice, generator: torch.Generator) -> Bytes:
        """Pictures of a part of a batch (B, S, S, 3), some among the surroundings of others.

        Args:
            batch: positions of the whole batch, for which numbers are drawn; none where the share
                is 0. part: of it.
        """
        if self._share == 0:
            return np.asarray(self._images[batch[part]])
        drawn = torch.rand(len(batch), generator=generator).numpy() < self._share
        lent = torch.randint(len(self._lenders) - 1, (len(batch),), generator=generator).numpy()
        return np.stack(
            [
                self._among(int(row), int(lender)) if swap else np.asarray(self._images[row])
                for row, swap, lender in zip(batch[part], drawn[part], lent[part], strict=True)
            ]
        )

    def _among(self, row: int, lent: int) -> Bytes:
        """A cell among the surroundings of the so many-th after it that has an outline."""
        picture = np.asarray(self._images[row])
        if row not in self._outlines:
            return picture
        own = int(np.searchsorted(self._lenders, row))
        other = int(self._lenders[(own + 1 + lent) % len(self._lenders)])
        lender = np.asarray(self._images[other])
        return among(picture, self._mask(row), lender, self._mask(other))

    def _mask(self, row: int) -> Bools:
        side = self._images.shape[1]
        return np.unpackbits(self._outlines[row], count=side * side).reshape(side, side) > 0
