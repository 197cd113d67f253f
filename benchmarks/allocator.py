"""Let glibc keep the memory that it has: by default it returns every large tensor to the kernel."""

from __future__ import annotations

import os
import sys

SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "500000000",
}


def keep_memory() -> None:
    """Start this process anew with an allocator that returns nothing, unless told otherwise.

    Where page faults are dear, as in a sandbox, they drown the arithmetic: the same bare passes
    then took twice the time, and ratios went anywhere from 1.0 to 1.4. Set MALLOC_TRIM_THRESHOLD_
    to measure with an allocator of your own.
    """
    if sys.platform == "linux" and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **SETTINGS})
