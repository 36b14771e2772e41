"""One reader per way in which a data set may lie on disk, see `cellkin.datasets.opening`."""
