"""A process that gives up, for good, all but reading, writing and computing (Linux seccomp).

After `confine` the kernel answers "not permitted" to every system call that is not in `ALLOWED`:
no file can be opened, removed or renamed, no socket made, no program started, no other process
touched; only pipes that are open already go on, and threads of its own. What is loaded later than
that fails, so everything must be loaded before. Elsewhere than on Linux (x86-64, ARM64) nothing
happens; `held` tries what should be impossible, and says what is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

# name -> number on x86-64, on ARM64; None where there is no such call
ALLOWED: Mapping[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "poll": (7, None),
    "ppoll": (271, 73),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getrandom": (318, 278),
    "getrusage": (98, 165),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
CLONE, CLONE3 = (56, 220), (435, 435)
SECCOMP = (317, 277)  # the call itself
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, audit's name

# of linux/seccomp.h, linux/prctl.h, linux/filter.h and linux/sched.h
NO_NEW_PRIVILEGES = 38
MODE_FILTER, ALL_THREADS = 1, 1
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # where they lie in what a filter is shown
OTHER_NUMBERS = 0x40000000  # calls of x32, which have numbers of their own
THREAD = 0x00010000


def confine() -> bool:
    """Give up all but `ALLOWED`, for every thread of this process and for good.

    Returns:
        whether the kernel agreed; it changes nothing where it did not, or on other systems.
    """
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        return False
    column, name = ARCHITECTURES[platform.machine()]
    library = ctypes.CDLL(None, use_errno=True)
    rules = _rules(column, name)
    code = ctypes.create_string_buffer(rules, len(rules))
    program = struct.pack("HxxxxxxP", len(rules) // 8, ctypes.addressof(code))
    if library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    given = ctypes.create_string_buffer(program, len(program))
    return bool(library.syscall(SECCOMP[column], MODE_FILTER, ALL_THREADS, given) == 0)


def _rules(column: int, architecture: int) -> bytes:
    """The filter, in the kernel's own language: eight bytes for each step."""
    numbers = [one[column] for one in ALLOWED.values()]
    allowed = [number for number in numbers if number is not None]
    last = len(allowed) + 3  # steps from the first of the allowed to the one that allows
    steps = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, last + 2, 0, OTHER_NUMBERS),
        *((EQUAL, last - i, 0, number) for i, number in enumerate(allowed)),
        (EQUAL, 5, 0, CLONE3[column]),
        (EQUAL, 0, 3, CLONE[column]),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (ANY_BIT, 0, 1, THREAD),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE | errno.EPERM),
        (RETURN, 0, 0, REFUSE | errno.ENOSYS),  # makes libc ask by clone, which can be looked into
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def held() -> dict[str, bool]:
    """What this process cannot do, by trying: read files, reach the network, start programs."""
    return {
        "files": _refused(_opens),
        "network": _refused(lambda: socket.socket().close()),
        "programs": _refused(_forks),
    }


def told(found: Mapping[str, bool]) -> str:
    """What is held, in a sentence for whoever starts the workstation."""
    if all(found.values()):
        return "Uploads are decoded in a sandbox: no files, no network, no programs"
    free = ", ".join(name for name, refused in found.items() if not refused)
    return (
        "Uploads are decoded WITHOUT a sandbox on this system: in memory and time alone is the "
        f"process that decodes bounded, not in {free}"
    )


def _refused(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except OSError:
        return True
    return False


def _opens() -> None:
    os.close(os.open("/", os.O_RDONLY))


def _forks() -> None:
    if (child := os.fork()) == 0:
        os._exit(0)
    with suppress(ChildProcessError):
        os.waitpid(child, 0)
