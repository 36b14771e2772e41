"""Floor 1: bytes to RGB arrays, safely, and the one deterministic way of preparing them.

`decode.decode` makes (H, W, 3) uint8 RGB of a file; `preprocess.Preprocessor` makes the square that
every network, heatmap and picture sees. No randomness and no torch in this room.
"""
