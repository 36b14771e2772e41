"""One migration per file; `revision` and `down_revision` order them."""
