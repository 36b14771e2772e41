"""What is wrong with a data set: duplicates, conflicting labels, leakage and shortcuts.

`audit(dataset)` gives an `AuditReport`; the pictures are `datasets.auditing.pictures`, the search
for pairs `proposals`, their verification `alignment` and `pairs`, the shortcut meter `shortcuts`.
"""

from cellkin.datasets.auditing.auditing import audit
from cellkin.datasets.auditing.sides import merged, read_split, write_merged

__all__ = ["audit", "merged", "read_split", "write_merged"]
