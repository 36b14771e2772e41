"""Floor 4: where are the cells of this field, how large, in what light? Never what they are.

field       a photograph or a slide: size, micrometres per pixel, `read(box, level)`
light       the lamp, told from the empty ground; a field in one even light
ruler       micrometres per pixel: from the file, as given, or by red cells
"""
