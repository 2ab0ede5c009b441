"""How this process holds memory.

glibc gives every large array back to the system when it is freed and asks for it anew a moment later; each of its
pages then faults in again, which on a virtual machine costs as much as reading the data from disk. A process that
works through gigabytes keeps them instead, until its job ends.
"""

from ctypes import CDLL

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 2**31 - 1
_PAD_BYTES = 64 << 20


def keep_freed_memory() -> None:
    """Ask the allocator to reuse freed arrays; without effect where it is not glibc's."""
    mallopt = getattr(CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)
        mallopt(_M_TOP_PAD, _PAD_BYTES)


def return_freed_memory() -> None:
    """Give the system what is freed but kept, so that an idle process holds little; without effect if not glibc's."""
    trim = getattr(CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
