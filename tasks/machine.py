"""How a stage uses the machine: torch threads, and freed memory that is kept rather than faulted in anew."""

import ctypes
import functools
import gc
import platform

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # names of <malloc.h>
_KEPT_BLOCK_BYTES = 64 << 20
_KEPT_HEAP_BYTES = 512 << 20


def use_threads(count: int) -> None:
    """Let torch compute on `count` threads, in this process, and reuse the memory it frees."""
    torch.set_num_threads(count)
    _keep_freed_memory()


def give_back_memory() -> None:
    """Free what a finished stage left behind: models hang in reference cycles, and their memory in malloc's lists."""
    gc.collect()
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@functools.cache
def _keep_freed_memory() -> None:
    """Make glibc keep blocks up to 64 MiB for reuse.

    By default it returns blocks of a few MiB to the kernel, and the next tensor of that size faults every page in
    anew: up to a third of a training step. Larger blocks are still returned, so that memory stays bounded.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_HEAP_BYTES)
        libc.mallopt(_M_ARENA_MAX, 1)  # or every thread of the task runner keeps its own


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
