"""Uploads of strangers: bombs, paths, names, damaged files, and a decoder that hangs."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.datastructures import UploadFile
from workstation import png

from cellkin.core.errors import ImageError
from cellkin.imaging.decode import decode
from cellkin.imaging.preprocess import Preprocessor, packaged_lite0
from cellkin.web.decoding import Decoders
from cellkin.web.problems import ProblemError
from cellkin.web.settings import Settings
from cellkin.web.uploads import LONGEST_NAME, Refusal, Upload, shown_name, unpacked

SETTINGS = Settings(
    max_files=20,
    max_file_bytes=100_000,
    max_unpacked_bytes=300_000,
    max_pixels=1_000_000,
    decode_seconds=10,
    workers=1,
)


def zipped(
    members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, name: str = "cells.zip"
) -> UploadFile:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    buffer.seek(0)
    return UploadFile(buffer, filename=name)


def opened(*files: UploadFile) -> list[Upload | Refusal]:
    return list(unpacked(files, SETTINGS))


def names(found: list[Upload | Refusal], kind: type) -> list[str]:
    return [one.name for one in found if isinstance(one, kind)]


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


# zips ---------------------------------------------------------------------------------------------


def test_a_zip_gives_its_images_in_order_without_junk() -> None:
    inside = {"a/1.png": b"one", "__MACOSX/a/._1.png": b"x", ".DS_Store": b"x", "2.png": b"two"}
    found = opened(UploadFile(io.BytesIO(b"plain"), filename="0.png"), zipped(inside))
    assert [(one.name, one.data) for one in found if isinstance(one, Upload)] == [
        ("0.png", b"plain"),
        ("a/1.png", b"one"),
        ("2.png", b"two"),
    ]


def test_a_bomb_is_refused_by_its_ratio_and_its_neighbours_are_taken() -> None:
    found = opened(zipped({"bomb.png": b"\0" * 90_000, "cell.png": noise(1000)}))
    assert names(found, Refusal) == ["bomb.png"]
    assert "50 times its size" in found[0].what  # type: ignore[union-attr]
    assert names(found, Upload) == ["cell.png"]


def test_a_bomb_that_lies_about_its_size_gives_no_more_than_it_claims() -> None:
    file = zipped({"bomb.png": b"\0" * 90_000})
    raw = bytearray(file.file.read())
    central = raw.index(b"PK\x01\x02")
    raw[central + 24 : central + 28] = struct.pack("<I", 500)  # the directory claims 500 bytes
    raw[22:26] = struct.pack("<I", 500)
    found = opened(UploadFile(io.BytesIO(bytes(raw)), filename="lies.zip"))
    assert names(found, Upload) == []
    assert "damaged" in found[0].what  # type: ignore[union-attr]


def test_many_members_that_unpack_to_much_together_are_stopped() -> None:
    inside = {f"{i}.png": noise(90_000, i) for i in range(4)}
    with pytest.raises(ProblemError, match="unpacks to more than 300000 bytes") as caught:
        opened(zipped(inside))
    assert caught.value.status == 413


def test_one_file_too_large_is_refused_alone() -> None:
    big = UploadFile(io.BytesIO(noise(100_001)), filename="big.png")
    found = opened(big, zipped({"big2.png": noise(100_001), "cell.png": b"x"}))
    assert names(found, Refusal) == ["big.png", "big2.png"]
    assert names(found, Upload) == ["cell.png"]


def test_too_many_files_are_refused_whole() -> None:
    with pytest.raises(ProblemError, match="more than 20 images"):
        opened(zipped({f"{i}.png": b"x" for i in range(21)}))
    loose = [UploadFile(io.BytesIO(b"x"), filename=f"{i}.png") for i in range(21)]
    with pytest.raises(ProblemError, match="more than 20 images"):
        opened(*loose)


def test_a_huge_directory_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the directory was read")

    file = zipped({f"{'n' * 900}{i}": b"" for i in range(40)})
    monkeypatch.setattr(zipfile, "ZipFile", never)
    with pytest.raises(ProblemError, match="more than 20 images"):
        opened(file)


@pytest.mark.parametrize("where", [0, 20])
def test_zip64_does_not_hide_a_huge_directory(where: int) -> None:
    raw = bytearray(zipped({"1.png": b"x"}).file.read())
    end = raw.rindex(b"PK\x05\x06")
    raw[end:end] = b"PK\x06\x07" + bytes(16)
    raw += bytes(where and 0)
    with pytest.raises(ProblemError, match="more than 20 images"):
        opened(UploadFile(io.BytesIO(bytes(raw)), filename="64.zip"))


@pytest.mark.parametrize("path", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:\\e.png"])
def test_a_path_that_leaves_the_zip_is_refused(path: str, tmp_path: Path) -> None:
    found = opened(zipped({path: b"x", "cell.png": b"x"}))
    assert len(names(found, Refusal)) == 1
    assert "leads out" in found[0].what  # type: ignore[union-attr]
    assert names(found, Upload) == ["cell.png"]


def test_a_zip_inside_a_zip_is_not_opened() -> None:
    inner = zipped({"cell.png": b"x"}).file.read()
    found = opened(zipped({"inner.zip": inner, "inner.png": inner}, zipfile.ZIP_STORED))
    assert names(found, Upload) == []
    assert all("zip inside a zip" in one.what for one in found)  # type: ignore[union-attr]


def test_other_methods_are_refused() -> None:
    found = opened(zipped({"cell.png": noise(1000)}, zipfile.ZIP_LZMA))
    assert "method" in found[0].what  # type: ignore[union-attr]


def test_an_encrypted_member_is_refused() -> None:
    raw = bytearray(zipped({"cell.png": noise(100)}).file.read())
    for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        raw[raw.index(signature) + offset] |= 1
    found = opened(UploadFile(io.BytesIO(bytes(raw)), filename="secret.zip"))
    assert "encrypted" in found[0].what  # type: ignore[union-attr]


@settings(max_examples=60)
@given(cut=st.integers(4, 200), flip=st.integers(0, 199))
def test_a_damaged_zip_is_refused_and_never_breaks(cut: int, flip: int) -> None:
    raw = bytearray(zipped({"a.png": noise(60), "b.png": noise(60)}).file.read())
    raw[flip % len(raw)] ^= 0xFF
    raw[:4] = b"PK\x03\x04"
    for data in (bytes(raw), bytes(raw[:cut])):
        try:
            found = opened(UploadFile(io.BytesIO(data), filename="d.zip"))
        except ProblemError:
            continue
        assert all(isinstance(one, Upload | Refusal) for one in found)


# names --------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.text(max_size=400))
def test_a_shown_name_holds_nothing_that_acts(name: str) -> None:
    shown = shown_name(name)
    assert 0 < len(shown) <= LONGEST_NAME
    assert ".." not in shown.split("/")
    assert not shown.startswith("/")
    assert not any(ord(c) < 32 or c in "\u202e\u200b\ud800" for c in shown)
    shown.encode()


def test_a_shown_name_keeps_what_people_wrote() -> None:
    assert shown_name("Zelle 7 (rot).png") == "Zelle 7 (rot).png"
    assert shown_name("..\\..\\a/b.png") == "a/b.png"
    assert shown_name("") == shown_name(None) == shown_name("../..") == "unnamed"
    assert shown_name("<script>alert(1)</script>.png") == "<script>alert(1)</script>.png"


# the guarded process ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def preprocessor() -> Preprocessor:
    return packaged_lite0(48)


@pytest.fixture(scope="module")
def decoders(preprocessor: Preprocessor) -> Iterator[Decoders]:
    made = Decoders(preprocessor, SETTINGS)
    yield made
    made.close()


def test_the_process_makes_the_picture_that_the_library_makes(
    decoders: Decoders, preprocessor: Preprocessor, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 256, (70, 90, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    made = decoders.prepare(buffer.getvalue(), "cell.png")
    wanted = preprocessor.prepare(decode(buffer.getvalue(), name="cell.png"))
    assert np.array_equal(made.image, wanted)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made.png))), wanted)


def bomb(side: int) -> bytes:
    """A small PNG whose header says side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 + 3 * side) * 8, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bomb(50_000), "too large"),
        (b"not an image", None),
        (b"", "empty"),
        (png(8, 8), "too small"),
        (png(64, 64, (9, 9, 9)), "greyscale"),
        (png(64, 64)[:-30], None),
    ],
)
def test_what_is_no_picture_is_refused(decoders: Decoders, data: bytes, words: str | None) -> None:
    with pytest.raises(ImageError, match=words):
        decoders.prepare(data, "cell.png")
    decoders.prepare(png(64, 64), "cell.png")  # the next one is decoded all the same


def test_a_process_that_hangs_is_killed_and_replaced(
    preprocessor: Preprocessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen
    silent = (
        "import sys,time; sys.stdout.write('{\"size\": 0}\\n'); sys.stdout.flush(); time.sleep(60)"
    )

    def start(words: list[str], **options: object) -> subprocess.Popen[bytes]:
        words = words if started else [sys.executable, "-c", silent]
        started.append(real(words, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr("cellkin.web.frames.subprocess.Popen", start)
    decoders = Decoders(preprocessor, replace(SETTINGS, decode_seconds=0.3))
    with pytest.raises(ImageError, match=r"not decoded within 0\.3 seconds"):
        decoders.prepare(png(64, 64), "slow.png")
    assert started[0].poll() is not None, "the silent process lives on"
    patient = replace(SETTINGS, decode_seconds=10)
    decoders.seconds = patient.decode_seconds
    assert decoders.prepare(png(64, 64), "cell.png").image.shape == (48, 48, 3)
    decoders.close()
    assert started[1].poll() is not None


def test_a_process_that_was_killed_is_replaced(
    preprocessor: Preprocessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(words: list[str], **options: object) -> subprocess.Popen[bytes]:
        started.append(real(words, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr("cellkin.web.frames.subprocess.Popen", start)
    decoders = Decoders(preprocessor, SETTINGS)
    decoders.prepare(png(64, 64), "cell.png")
    started[0].kill()
    started[0].wait()
    assert decoders.prepare(png(64, 64), "cell.png").image.shape == (48, 48, 3)
    assert len(started) == 2
    decoders.close()
    assert started[1].poll() is not None
