"""How a stage finds the machine, and leaves it: without the memory it needed."""

import ctypes
import gc
import platform


def give_back_memory() -> None:
    """Free what a finished stage left behind: models hang in reference cycles, and their memory in malloc's lists."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def spare_what_stays() -> None:
    """Let later collections pass over all that is loaded now: walking the libraries took a third of a second each time.

    Before stages begin: a model that is alive now would never be freed where it hangs in a cycle.
    """
    gc.collect()
    gc.freeze()
