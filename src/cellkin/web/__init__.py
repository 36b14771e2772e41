"""Floor 8: the workstation: where a morphologist looks, decides and signs."""
