"""Memory of the process: its peak, and keeping what is freed, which makes CPU training faster."""

from __future__ import annotations

import ctypes
import resource
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
GIBIBYTE, MEBIBYTE = 1 << 30, 1 << 20


def keep_freed_memory() -> bool:
    """Let glibc reuse large freed blocks in place of handing each back to the kernel.

    A training step frees and takes the same large activations again and again; by default each
    taking faults every page anew. This changes a setting of the whole process, so a library call
    never does it by itself: the command line does, and a script may.

    Returns:
        whether it took effect (False where the C library is not glibc).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((M_MMAP_THRESHOLD, GIBIBYTE), (M_TRIM_THRESHOLD, 2 * GIBIBYTE - 1), (M_MMAP_MAX, 0))
    taken = [mallopt(option, value) == 1 for option, value in wanted]
    return all(taken)


def peak_memory(device: torch.device) -> dict[str, int]:
    """The most memory that this process has held, in MiB: `peak_memory_mib`, and on a GPU
    `peak_gpu_memory_mib` as its allocator counts.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // MEBIBYTE
    }
    if device.type == "cuda":
        peak["peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) // MEBIBYTE
    return peak
