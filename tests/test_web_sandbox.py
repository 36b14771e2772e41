"""The process that decodes, from its inside: what a hostile picture could do, had it taken over."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from workstation import SETTINGS, png

from cellkin.imaging.decode import decode
from cellkin.imaging.preprocess import Preprocessor, packaged_lite0
from cellkin.web import sandbox
from cellkin.web.decoding import Decoders
from cellkin.web.frames import LARGEST, LONGEST, Companion, Silent

INSIDE = """
import ctypes, json, os, signal, socket, subprocess, sys, threading
import cellkin.web.decoder as decoder
store, parent = sys.argv[1], int(sys.argv[2])
folder = os.path.dirname(store)
libc = ctypes.CDLL(None, use_errno=True)
unix = socket.AF_UNIX

def call(number, *given):
    if libc.syscall(number, *given) < 0:
        raise OSError(ctypes.get_errno(), "")

attempts = {
    "read the store": lambda: open(store, "rb").read(1),
    "change the store": lambda: os.write(os.open(store, os.O_WRONLY), b"x"),
    "delete the store": lambda: os.unlink(store),
    "rename the store": lambda: os.rename(store, store + "2"),
    "open up the store": lambda: os.chmod(store, 0o777),
    "cut the store": lambda: os.truncate(store, 0),
    "link to the store": lambda: os.symlink(store, folder + "/link"),
    "make a file": lambda: open(folder + "/new", "w"),
    "make a folder": lambda: os.mkdir(folder + "/new"),
    "list a folder": lambda: os.listdir(folder),
    "look at a file": lambda: os.stat(store),
    "read what others are": lambda: open(f"/proc/{parent}/environ").read(),
    "open a socket": lambda: socket.socket(),
    "open a local socket": lambda: socket.socket(unix),
    "make a pair of sockets": lambda: socket.socketpair(),
    "start a program": lambda: subprocess.run(["true"]),
    "become a program": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os.fork() or os._exit(0),
    "stop the workstation": lambda: os.kill(parent, signal.SIGCONT),
    "trace the workstation": lambda: call({trace}, 16, parent, 0, 0),
    "read its memory": lambda: call({peek}, parent, 0, 0, 0, 0, 0),
    "raise its own bounds": lambda: call({limit}, parent, 7, 0, 0),
    "load what a picture brings": lambda: ctypes.CDLL(folder + "/evil.so"),
    "make a file of memory": lambda: os.memfd_create("x"),
    "ask by a ring": lambda: call(425, 1, ctypes.create_string_buffer(120)),
}
confined = decoder._guard()
threads = []
worker = threading.Thread(target=lambda: threads.append(1))
worker.start()
worker.join()
done = []
for name, attempt in attempts.items():
    try:
        attempt()
        done.append(name)
    except OSError:
        pass
print(json.dumps({"confined": confined, "tried": len(attempts), "done": done, "threads": threads}))
"""
NUMBERS = {  # of ptrace, process_vm_readv and prlimit64
    "x86_64": {"trace": 101, "peek": 310, "limit": 302},
    "aarch64": {"trace": 117, "peek": 270, "limit": 261},
}


def inside(store: Path) -> dict[str, object]:
    code = INSIDE
    for name, number in NUMBERS.get(os.uname().machine, NUMBERS["x86_64"]).items():
        code = code.replace(f"{{{name}}}", str(number))
    words = [sys.executable, "-c", code, str(store), str(os.getpid())]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    if not found["confined"]:
        pytest.skip("this system has no seccomp that a process may ask for")
    return found


def test_a_decoder_that_was_taken_over_can_do_nothing(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    store.write_bytes(b"cases")
    found = inside(store)
    assert found["done"] == []
    assert found["tried"] == 25
    assert found["threads"] == [1], "libraries that decode start threads"
    assert store.read_bytes() == b"cases"
    assert os.listdir(tmp_path) == ["store.sqlite"]


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(packaged_lite0(48), replace(SETTINGS, accounts=False))
    yield made
    made.close()


def test_it_is_said_what_holds(decoders: Decoders) -> None:
    assert sandbox.told(decoders.held()) == sandbox.told(dict.fromkeys(sandbox.held(), True))
    without = sandbox.told({"files": False, "network": True, "programs": False})
    assert "WITHOUT" in without
    assert "files, programs" in without


def test_what_is_free_is_found_by_trying() -> None:
    assert sandbox.held() == {"files": False, "network": False, "programs": False}


@cache
def pictures() -> dict[str, bytes]:
    """One of every kind that is read, so that whatever each of them loads is loaded."""
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    found = {}
    for name, options in {
        "a.png": {},
        "a.jpg": {},
        "progressive.jpg": {"progressive": True},
        "a.bmp": {},
        "a.tif": {},
        "lzw.tif": {"compression": "tiff_lzw"},
        "jpeg.tif": {"compression": "jpeg"},
    }.items():
        buffer = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF"}.get(name[-3:], name[-3:].upper())
        Image.fromarray(image).save(buffer, kind, **options)
        found[name] = buffer.getvalue()
    for name, pixels in {"tiles.tif": image, "deep.tif": image.astype(np.uint16) * 257}.items():
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, photometric="rgb", compression="zlib", tile=(32, 32))
        found[name] = buffer.getvalue()
    return found


@pytest.mark.parametrize("name", pictures())
def test_every_kind_of_picture_is_decoded_inside(decoders: Decoders, name: str) -> None:
    data = pictures()[name]
    seen: Preprocessor = packaged_lite0(48)
    assert np.array_equal(decoders.prepare(data, name).image, seen.prepare(decode(data, name=name)))


# what it may say ----------------------------------------------------------------------------------

ANSWERS = {
    "nonsense": b"no frame\n",
    "no size": b"{}\n",
    "a size that is none": b'{"size": "many"}\n',
    "less than nothing": b'{"size": -1}\n',
    "more than memory": f'{{"size": {LARGEST + 1}}}\n'.encode(),
    "a list": b"[1]\n",
    "deep": b"[" * (LONGEST - 1) + b"\n",
    "an endless line": b"a" * (LONGEST + 2),
    "nothing": b"",
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_decoder_that_lies_is_ended(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    real = subprocess.Popen
    code = (
        "import sys; out = sys.stdout.buffer; out.write(b'{\"size\": 0}\\n'); out.flush()\n"
        f"sys.stdin.buffer.readline(); out.write({ANSWERS[what]!r})"
    )

    def start(_: list[str], **options: object) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-S", "-c", code], **options)  # type: ignore[call-overload]

    monkeypatch.setattr("cellkin.web.frames.subprocess.Popen", start)
    companion = Companion("x")
    with pytest.raises(Silent):
        companion.ask({}, b"", 5)
    companion.kill()


def test_a_decoder_that_does_not_listen_does_not_stop_us(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen
    code = "import time; print('{\"size\": 0}', flush=True); time.sleep(60)"

    def start(_: list[str], **options: object) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-S", "-c", code], **options)  # type: ignore[call-overload]

    monkeypatch.setattr("cellkin.web.frames.subprocess.Popen", start)
    companion = Companion("x")
    with pytest.raises(Silent) as silence:
        companion.ask({}, png(64, 64) + bytes(2**22), 0.2)
    assert silence.value.timed_out
    companion.kill()
