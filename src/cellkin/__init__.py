"""cellkin: decision support for acute lymphoblastic leukemia, by a cell's closest kin.

For research use only; never a diagnosis without a pathologist.
"""

from __future__ import annotations

__version__ = "0.1.0"
