"""How much a store on this machine may grow, and how much of that a run keeps free."""

import os
import resource

# A run asks for an answer only where this much is free, so that what is under way, paid for or
# soon to be, finds room. Eight answers of the largest models are two megabytes.
RESERVE_BYTES = 16 * 2**20
# Where less is free, an error of the disk is its being full: a page and its frame do not fit.
FULL_BYTES = 64 * 2**10


def free_bytes(path: str) -> int | None:
    """By how much a file may grow: what its disk has for this user, and its process may write.

    Args:
        path: of a SQLite file, whose log counts as the file does.

    Returns:
        None where the system does not tell.
    """
    try:
        disk = os.statvfs(os.path.dirname(path) or ".")
    except OSError:
        return None
    free = disk.f_bavail * disk.f_frsize
    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if most != resource.RLIM_INFINITY:
        sizes = [os.path.getsize(one) for one in (path, path + "-wal") if os.path.exists(one)]
        free = min(free, max(0, most - max(sizes, default=0)))
    return free
