"""Attacks on what the judging process knows: memory, environment, open descriptors."""

from selftaught.testing.attacks.attack import Attack, Report
from selftaught.testing.attacks.attacked_host import (
    CANARY,
    ENVIRONMENT_SECRET,
    INHERITED_SECRET,
    AttackedHost,
)


def _canary_came_back(report: Report, host: AttackedHost) -> bool:
    return CANARY in report.text


def _key_came_back(report: Report, host: AttackedHost) -> bool:
    return ENVIRONMENT_SECRET in report.text


# The pattern is put together so that no attack finds its own text.
_FIND = r"""
import re
PATTERN = "can" + "ary-[0-9a-f]{32}"
def found_in(data):
    return sorted({m.decode() for m in re.findall(PATTERN.encode(), data)})
"""

MEMORY = (
    Attack(
        name="search_all_objects",
        gains="the hidden instances and their answers",
        body=_FIND
        + """
import gc
def attack():
    found = set()
    for held in gc.get_objects():
        for thing in (held.values() if type(held) is dict else gc.get_referents(held)):
            if type(thing) is str:
                found.update(re.findall(PATTERN, thing))
    return sorted(found)
""",
        succeeds=_canary_came_back,
    ),
    Attack(
        name="search_the_frames_of_its_callers",
        gains="the hidden instances and their answers",
        body=_FIND
        + """
def attack():
    found, frame = set(), sys._getframe()
    while frame is not None:
        for names in (frame.f_locals, frame.f_globals):
            found.update(re.findall(PATTERN, "".join(repr(v)[:9999] for v in names.values())))
        frame = frame.f_back
    return sorted(found)
""",
        succeeds=_canary_came_back,
    ),
    Attack(
        name="search_its_memory_through_proc",
        gains="the hidden instances and their answers, even freed ones",
        body=_FIND
        + """
def attack():
    found = set()
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    for line in open("/proc/self/maps"):
        span, rights = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        if rights.startswith("rw") and end - start < 1 << 28:
            try:
                found.update(found_in(os.pread(memory, end - start, start)))
            except (OSError, OverflowError):
                pass
    return sorted(found)
""",
        succeeds=_canary_came_back,
    ),
    Attack(
        name="search_its_memory_through_a_pipe",
        gains="the same without /proc: the kernel tells which addresses there are",
        body=_FIND
        + """
import gc
def attack():
    found = set()
    reader, writer = os.pipe()
    arenas = {id(thing) >> 20 for thing in gc.get_objects()}
    arenas = {a + n for a in arenas for n in (-1, 0, 1)}
    for arena in arenas:
        data = b""
        for start in range(arena << 20, (arena + 1) << 20, 4096):
            if libc.write(writer, ctypes.c_void_p(start), ctypes.c_size_t(4096)) == 4096:
                data += os.read(reader, 4096)
        found.update(found_in(data))
    return sorted(found)
""",
        succeeds=_canary_came_back,
    ),
)

ENVIRONMENT = (
    Attack(
        name="read_keys_from_the_environment",
        gains="the keys of a paid service",
        body="def attack():\n    return dict(os.environ)",
        succeeds=_key_came_back,
    ),
    Attack(
        name="read_keys_from_proc",
        gains="keys that were deleted from os.environ",
        body="def attack():\n    return open('/proc/self/environ', 'rb').read().decode()",
        succeeds=_key_came_back,
    ),
    Attack(
        name="read_keys_from_the_c_library",
        gains="keys that were deleted from os.environ",
        body="""
            def attack():
                entries = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
                found, n = [], 0
                while entries[n]:
                    found.append(entries[n].decode())
                    n += 1
                return found
        """,
        succeeds=_key_came_back,
    ),
    Attack(
        name="read_inherited_descriptors",
        gains="files that the host had open",
        body="""
            def attack():
                found = []
                for descriptor in range(3, 1024):
                    try:
                        found.append(os.pread(descriptor, 4096, 0).decode())
                    except (OSError, ValueError):
                        pass
                return found
        """,
        succeeds=lambda report, host: INHERITED_SECRET in report.text,
    ),
)

ATTACKS = MEMORY + ENVIRONMENT
