"""Peak memory of what is done inside."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from attrs import frozen

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@frozen(kw_only=True)
class Memory:
    """What was in use at the worst moment, bytes.

    Attributes:
        peak: of a GPU what torch's allocator had given out; of a CPU the resident memory of the
            process above what it had before.
        reserved: of a GPU what the allocator held, which is what others cannot have; else None.
        source: how it was measured.
    """

    peak: int
    reserved: int | None
    source: str


@contextlib.contextmanager
def watched(device: torch.device) -> Iterator[Callable[[], Memory]]:
    """Gives a function that says the peak since the beginning of the body.

    On a CPU it is the kernel's own high-water mark, which Linux lets a process set back (by
    writing 5 to ``/proc/self/clear_refs``, proc(5)), so that no moment is missed. It counts whole
    pages that were touched: weights, activations, and what allocators keep for later. Where it
    cannot be set back, it is the peak of the whole life of the process, above the peak before.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: Memory(
            peak=torch.cuda.max_memory_allocated(device),
            reserved=torch.cuda.max_memory_reserved(device),
            source="torch's CUDA allocator",
        )
        return
    _trim()
    try:
        _CLEAR.write_text("5")
        before = _kernel("VmRSS")
    except OSError:
        start = _lifetime()
        source = "getrusage's peak of the process above its peak before"
        yield lambda: Memory(peak=_lifetime() - start, reserved=None, source=source)
        return
    source = "VmHWM, set back at the start, above VmRSS then"
    yield lambda: Memory(peak=_kernel("VmHWM") - before, reserved=None, source=source)


def _trim() -> None:
    """Give back what was freed but is kept for later, where the C library can (glibc's can)."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _kernel(field: str) -> int:
    """A field of the process's status in bytes."""
    lines = _STATUS.read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _lifetime() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
