"""Class injection (section 3.2): cell-free patches as a class, and a class cut in two."""
