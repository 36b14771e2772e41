"""Fields: photographs, tiled and pyramidal TIFF, slides; what is read equals what was written."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellkin.core.arrays import Bytes
from cellkin.core.errors import ImageError
from cellkin.smear.dicom import one_of_each
from cellkin.smear.field import Field, is_field


@pytest.fixture
def picture(rng: np.random.Generator) -> Bytes:
    return rng.integers(0, 256, (300, 420, 3)).astype(np.uint8)


def pyramid(path: Path, picture: Bytes, *, scale: float | None = None, **options: object) -> Path:
    """A tiled TIFF of three levels."""
    metadata = {"axes": "YXS"}
    if scale is not None:
        metadata |= {"PhysicalSizeX": scale, "PhysicalSizeXUnit": "µm"}  # type: ignore[dict-item]
    common = {"tile": (64, 80), "photometric": "rgb", **options}
    with tifffile.TiffWriter(path, ome=path.name.endswith(".ome.tif")) as tiff:
        tiff.write(picture, subifds=2, metadata=metadata, **common)
        for step in (2, 4):
            tiff.write(np.ascontiguousarray(picture[::step, ::step]), subfiletype=1, **common)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_photograph_is_read_as_it_is(tmp_path: Path, picture: Bytes, suffix: str) -> None:
    Image.fromarray(picture).save(tmp_path / f"field{suffix}")
    with Field(tmp_path / f"field{suffix}") as field:
        assert (field.width, field.height, field.downsamples) == (420, 300, (1.0,))
        assert field.um_per_pixel is None
        np.testing.assert_array_equal(field.read(), picture)
        np.testing.assert_array_equal(field.read((10, 20, 50, 90)), picture[20:90, 10:50])


@pytest.mark.parametrize("name", ["field.tif", "field.ome.tif"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_parts_of_a_pyramid_equal_the_levels(
    tmp_path: Path, picture: Bytes, name: str, compression: str | None
) -> None:
    with Field(pyramid(tmp_path / name, picture, compression=compression)) as field:
        assert field.downsamples == (1.0, 2.0, 4.0)
        np.testing.assert_array_equal(field.read(), picture)
        np.testing.assert_array_equal(field.read((63, 61, 300, 299)), picture[61:299, 63:300])
        np.testing.assert_array_equal(
            field.read((64, 40, 128, 200), 1), picture[40:200:2, 64:128:2]
        )
        np.testing.assert_array_equal(field.read(None, 2), picture[::4, ::4])


def test_the_file_tells_its_scale(tmp_path: Path, picture: Bytes) -> None:
    with Field(pyramid(tmp_path / "a.ome.tif", picture, scale=0.25)) as field:
        assert field.um_per_pixel == pytest.approx(0.25)
    Image.fromarray(picture).save(tmp_path / "micro.png", dpi=(254_000, 254_000))
    Image.fromarray(picture).save(tmp_path / "screen.png", dpi=(72, 72))
    with Field(tmp_path / "micro.png") as field:
        assert field.um_per_pixel == pytest.approx(0.1, rel=1e-3)
    with Field(tmp_path / "screen.png") as field:
        assert field.um_per_pixel is None


def test_any_resolution_comes_from_the_nearest_finer_level(tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(0, 255, 400).astype(np.uint8)[None, :, None], 300, 0)
    ramp = np.repeat(ramp, 3, 2) // np.array([1, 2, 3], np.uint8)
    with Field(pyramid(tmp_path / "ramp.tif", ramp)) as field:
        assert [field.level_for(d) for d in (0.5, 1, 1.9, 2, 3, 4, 40)] == [0, 0, 0, 1, 1, 2, 2]
        for downsample in (0.8, 1.5, 3.0, 5.0):
            found = field.scaled((40, 40, 280, 240), downsample)
            assert found.shape == (round(200 / downsample), round(240 / downsample), 3)
            assert abs(float(found[..., 0].mean()) - float(ramp[40:240, 40:280, 0].mean())) < 2


def test_a_large_part_is_averaged_down_band_by_band(
    tmp_path: Path, picture: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Field(pyramid(tmp_path / "a.tif", picture)) as field:
        whole = field.scaled((4, 8, 404, 288), 1.9)
        monkeypatch.setattr("cellkin.smear.field.AT_ONCE", 20_000)
        bands = field.scaled((4, 8, 404, 288), 1.9)
    assert bands.shape == whole.shape
    assert np.abs(bands.astype(int) - whole).mean() < 6  # noise, parted at other rows


def test_tiles_cover_the_field(tmp_path: Path, picture: Bytes) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png")
    with Field(tmp_path / "a.png") as field:
        seen = np.zeros((300, 420), int)
        for left, top, right, bottom in field.tiles(128, 32):
            seen[top:bottom, left:right] += 1
    assert seen.min() >= 1


def test_memory_does_not_grow_with_the_slide(tmp_path: Path) -> None:
    """40,000 x 40,000 pixels (4.8 GB as an array), of which one tile was written."""
    path = tmp_path / "large.tif"
    tile = np.full((256, 256, 3), 7, np.uint8)
    many = (40_000 // 256 + 1) ** 2

    def tiles() -> object:
        yield tile
        for _ in range(many - 1):
            yield None

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            tiles(), shape=(40_000, 40_000, 3), dtype="uint8", tile=(256, 256), photometric="rgb"
        )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Field(path) as field:
        assert (field.read((0, 0, 256, 256)) == 7).all()
        assert (field.read((39_000, 39_000, 40_000, 40_000)) == 255).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # KiB


def test_slides_are_read_by_openslide(tmp_path: Path, picture: Bytes) -> None:
    pytest.importorskip("openslide")
    path = tmp_path / "slide.svs"
    tifffile.imwrite(path, picture, tile=(64, 80), photometric="rgb")
    with Field(path) as field:
        assert (field.width, field.height) == (420, 300)
        np.testing.assert_array_equal(field.read((17, 33, 100, 200)), picture[33:200, 17:100])


def test_a_missing_package_is_said_with_the_line_that_installs_it(
    tmp_path: Path, picture: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    tifffile.imwrite(tmp_path / "slide.ndpi", picture, tile=(64, 80), photometric="rgb")
    with pytest.raises(ImageError) as error:
        Field(tmp_path / "slide.ndpi")
    assert "cellkin[slides]" in error.value.mend


def cut_off(path: Path, picture: Bytes) -> None:
    pyramid(path, picture)
    path.write_bytes(path.read_bytes()[:-40_000])


def grey_tiles(path: Path, picture: Bytes) -> None:
    tifffile.imwrite(path, picture[..., 0], tile=(64, 80))


def a_stack(path: Path, picture: Bytes) -> None:
    stack = np.stack([picture] * 3)
    tifffile.imwrite(path, stack, tile=(64, 80), photometric="rgb", metadata={"axes": "ZYXS"})


def deep(path: Path, picture: Bytes) -> None:
    tifffile.imwrite(path, picture.astype(np.uint16), tile=(64, 80), photometric="rgb")


def two_pixels(path: Path, picture: Bytes) -> None:
    tifffile.imwrite(path, picture[:1, :2], photometric="rgb")


def no_slide(path: Path, picture: Bytes) -> None:
    path.with_suffix(".svs").write_bytes(b"hello")


def read_all(path: Path) -> None:
    with Field(path) as field:
        for level in range(len(field.downsamples)):
            field.read(None, level)


@pytest.mark.parametrize("spoil", [cut_off, grey_tiles, a_stack, deep, two_pixels, no_slide])
def test_bad_fields_get_a_clear_answer(tmp_path: Path, picture: Bytes, spoil: object) -> None:
    spoil(tmp_path / "bad.tif", picture)  # type: ignore[operator]
    (path,) = tmp_path.iterdir()
    if path.suffix == ".svs":
        pytest.importorskip("openslide")
    with pytest.raises(ImageError) as error:
        read_all(path)
    assert error.value.mend
    assert str(path) in error.value.where


def test_a_level_that_shows_something_else_is_passed_over(tmp_path: Path, picture: Bytes) -> None:
    with tifffile.TiffWriter(tmp_path / "odd.tif") as tiff:
        tiff.write(picture, subifds=1, tile=(64, 80), photometric="rgb")
        other = np.ascontiguousarray(picture[:40, ::3])
        tiff.write(other, subfiletype=1, tile=(64, 80), photometric="rgb")
    with Field(tmp_path / "odd.tif") as field:
        assert field.downsamples == (1.0,)
        np.testing.assert_array_equal(field.scaled((0, 0, 420, 300), 1), picture)


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 421, 5), (5, 5, 5, 9), (9, 0, 4, 5)])
def test_a_box_outside_is_refused(
    tmp_path: Path, picture: Bytes, box: tuple[int, int, int, int]
) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png")
    with Field(tmp_path / "a.png") as field, pytest.raises(ImageError, match="does not lie"):
        field.read(box)
    with Field(tmp_path / "a.png") as field, pytest.raises(ImageError, match="no level 1"):
        field.read(None, 1)


def test_names_of_fields() -> None:
    assert is_field(Path("a.JPG"))
    assert is_field(Path("b.ndpi"))
    assert not is_field(Path("c.csv"))


@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha"])
def test_what_is_transparent_lies_over_white(tmp_path: Path, picture: Bytes, kind: str) -> None:
    share = np.linspace(0, 255, 420).astype(np.uint8)[None, :, None].repeat(300, 0)
    seen = (picture * (share / 255) + 255 - share).round()
    stored = (picture * (share / 255)).round() if kind == "assocalpha" else picture
    rgba = np.concatenate([stored.astype(np.uint8), share], axis=2)
    tiles = {"tile": (64, 80), "photometric": "rgb", "extrasamples": [kind]}
    tifffile.imwrite(tmp_path / "a.tif", rgba, **tiles)
    with Field(tmp_path / "a.tif") as field:
        assert np.abs(field.read().astype(int) - seen).max() <= 1


def test_a_fourth_channel_that_nobody_declares_is_refused(tmp_path: Path, picture: Bytes) -> None:
    four = np.concatenate([picture, picture[..., :1]], axis=2)
    tiles = {"tile": (64, 80), "photometric": "rgb", "extrasamples": ["unspecified"]}
    tifffile.imwrite(tmp_path / "a.tif", four, **tiles)
    with pytest.raises(ImageError, match="4 channels"):
        Field(tmp_path / "a.tif")


# --- DICOM ---------------------------------------------------------------------------------------


def dicom_slide(folder: Path, rgb: Bytes, um: float = 0.25) -> list[Path]:
    """A slide of two levels, each a file, as a scanner writes it."""
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir()
    ids = [pydicom.uid.generate_uid() for _ in range(3)]
    paths = [folder / f"{step}.dcm" for step in (1, 2)]
    for path, step in zip(paths, (1, 2), strict=True):
        level = dicom_level(np.ascontiguousarray(rgb[::step, ::step]), um, step)
        level.StudyInstanceUID, level.SeriesInstanceUID, level.FrameOfReferenceUID = ids
        level.InstanceNumber = step
        level.save_as(path, enforce_file_format=True)
    return paths


def dicom_level(rgb: Bytes, um: float, step: int) -> Any:
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    def item(**values: Any) -> Any:
        made = pydicom.Dataset()
        for name, value in values.items():
            setattr(made, name, [value] if isinstance(value, pydicom.Dataset) else value)
        return made

    side = 64
    (height, width), kind = rgb.shape[:2], pydicom.uid.VLWholeSlideMicroscopyImageStorage
    rows, columns = -(-height // side), -(-width // side)
    padded = np.pad(
        rgb,
        ((0, rows * side - height), (0, columns * side - width), (0, 0)),
        constant_values=255,
    )
    frames = padded.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    image_type = ["ORIGINAL" if step == 1 else "DERIVED", "PRIMARY", "VOLUME"]
    image_type.append("NONE" if step == 1 else "RESAMPLED")
    spacing = item(PixelSpacing=[um * step / 1000] * 2, SliceThickness=0.001)
    white = item(CodeValue="371251000", CodingSchemeDesignator="SCT", CodeMeaning="White color")
    lit = item(CodeValue="111744", CodingSchemeDesignator="DCM", CodeMeaning="Brightfield")
    made = item(
        SOPClassUID=kind,
        SOPInstanceUID=meta.MediaStorageSOPInstanceUID,
        Modality="SM",
        PatientID="P",
        ContainerIdentifier="S",
        ImageType=image_type,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        Rows=side,
        Columns=side,
        NumberOfFrames=rows * columns,
        TotalPixelMatrixColumns=width,
        TotalPixelMatrixRows=height,
        TotalPixelMatrixFocalPlanes=1,
        ImagedVolumeWidth=width * step * um / 1000,
        ImagedVolumeHeight=height * step * um / 1000,
        ImagedVolumeDepth=0.001,
        DimensionOrganizationType="TILED_FULL",
        NumberOfOpticalPaths=1,
        VolumetricProperties="VOLUME",
        SpecimenLabelInImage="NO",
        FocusMethod="AUTO",
        ExtendedDepthOfField="NO",
        LossyImageCompression="00",
        ImageOrientationSlide=[0, -1, 0, -1, 0, 0],
        TotalPixelMatrixOriginSequence=item(
            XOffsetInSlideCoordinateSystem=20.0, YOffsetInSlideCoordinateSystem=20.0
        ),
        SharedFunctionalGroupsSequence=item(
            PixelMeasuresSequence=spacing,
            WholeSlideMicroscopyImageFrameTypeSequence=item(FrameType=image_type),
            OpticalPathIdentificationSequence=item(OpticalPathIdentifier="1"),
        ),
        OpticalPathSequence=item(
            OpticalPathIdentifier="1",
            IlluminationTypeCodeSequence=lit,
            IlluminationColorCodeSequence=white,
        ),
        PixelData=frames.tobytes(),
    )
    return FileDataset("slide", made, file_meta=meta, preamble=b"\0" * 128)


@pytest.mark.parametrize("reader", ["openslide", "wsidicom"])
def test_dicom_slides_are_read(
    tmp_path: Path, picture: Bytes, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(reader)
    path = dicom_slide(tmp_path / "slide", picture)[0]
    if reader == "wsidicom":
        monkeypatch.setitem(sys.modules, "openslide", None)
    with Field(path) as field:
        assert field.downsamples == (1.0, 2.0)
        assert field.um_per_pixel == pytest.approx(0.25)
        np.testing.assert_array_equal(field.read((17, 33, 100, 200)), picture[33:200, 17:100])
        half = field.read((20, 40, 120, 140), 1)
        np.testing.assert_array_equal(half, picture[40:140:2, 20:120:2])


def test_the_levels_of_a_dicom_slide_are_one_field(tmp_path: Path, picture: Bytes) -> None:
    pytest.importorskip("pydicom")
    for name in ("a", "b"):
        dicom_slide(tmp_path / name, picture)
    Image.fromarray(picture).save(tmp_path / "c.png")
    found = one_of_each(sorted(tmp_path.rglob("*.*")))
    names = [p.relative_to(tmp_path).as_posix() for p in found]
    assert names == ["a/1.dcm", "b/1.dcm", "c.png"]


def test_a_text_called_dicom_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("wsidicom")
    (tmp_path / "a.dcm").write_bytes(b"hello" * 100)
    with pytest.raises(ImageError) as error:
        Field(tmp_path / "a.dcm")
    assert error.value.mend
