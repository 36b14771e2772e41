"""The arrays of the house, by what they hold; a docstring says the shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # numbers of any type
Bytes = NDArray[np.uint8]  # pictures and their channels, 0 to 255
Bools = NDArray[np.bool_]  # masks: yes or no for each pixel, cell or case
Ints = NDArray[np.int64]  # labels, counts, and places in other arrays
Floats = NDArray[np.float64]  # measures and distances, in double precision
Singles = NDArray[np.float32]  # what networks take and give, and pictures in the making
