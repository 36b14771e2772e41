"""How drawn smears are made, from a stain on a pixel to a data set on disk.

    canvas      stain amounts, shapes, noise
    elements    red cells, platelets, white cells on a canvas
    lymphoid    kinds of white cells: one function each,
    myeloid     from random numbers to a `WhiteCell`
    camera      a subject's stain and light; Beer-Lambert, focus, noise, JPEG; the exact mask
    scene       pictures of one cell, and whole fields
    plan        what all layouts share: the order, its people, masks and truth beside the images
    pictures    one planned cell in one picture
    folders, allidb, single (C-NMC, PBC), tissue (ADP)
                layouts: who contributes what, and how it lies on disk

A module imports only from those above it. `cellkin.drawing.drawn` is the way in.
"""
