"""Which processes run on this machine, and which of them a process has started."""

from pathlib import Path


def processes() -> dict[str, int]:
    """Each process by its id and the time it started, so that no other is taken for it."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # A zombie has ended.
        if fields[0] != "Z":
            found[f"{entry.parent.name} {fields[19]}"] = int(fields[1])
    return found


def below(pid: int) -> set[str]:
    """The processes that a process has started, and those that these have."""
    parents = processes()
    ids, found = {pid}, set[str]()
    while more := {one for one, parent in parents.items() if parent in ids} - found:
        found |= more
        ids |= {int(one.split()[0]) for one in more}
    return found
