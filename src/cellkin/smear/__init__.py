"""Floor 4: where are the cells of this field, how large, in what light? Never what they are.

field       a photograph or a slide: size, micrometres per pixel, `read(box, level)`
dicom       DICOM slides that OpenSlide does not read
light       the lamp, told from the empty ground; a field in one even light
ruler       micrometres per pixel: from the file, as given, or by red cells
evened      a field in one even light, read at any resolution
found       what is found: cells, outlines, by what light and ruler
network     the finder's network
outlines    nucleus and body of each cell
window      how much of a field one picture of an atlas shows, and in what light
cutting     cells cut from their field, as an atlas is to see them
surveying   a field at a glance: light, ruler, scale
searching   the network on one part of a field
suitable    is it a smear at all, by what is recognised in it
keeping     what is found, as it is kept on disk
jobs        photographs and parts of slides as works
finding     the way in: `find`, `find_all`, `searched`
writing     JSON, GeoJSON, crops
varying, scenes, training
            how the finder is taught: other laboratories, painted fields, the loss
marks, mark_files, fitting
            marks of other programs, and fitting the finder to them
"""
