"""Attacks on the machine's resources: processes, threads, memory, disk and time.

What is taken without a sandbox, to see that the attack works, is a small dose.
"""

from selftaught.testing.attacks.attack import MIB, Attack, Judge, overran

_LIMIT = 256 * MIB
# Beyond any reading of a limit of 256 MiB, and still no harm to a machine without one.
_TOO_MUCH = 4 * _LIMIT


def _at_least(fact: str) -> Judge:
    return lambda report, host: report.number >= host.facts[fact]


BOMBS = (
    Attack(
        name="fork_bomb",
        gains="a machine that answers nobody",
        facts={"count": 500},
        control_facts={"count": 1},
        body="""
            def attack():
                for n in range(HOST["count"]):
                    if os.fork() == 0:
                        rename_process(HOST["marker"])
                        time.sleep(20)
                        os._exit(0)
                time.sleep(0.1)
                return HOST["count"]
        """,
        succeeds=lambda report, host: (
            report.number >= host.facts["count"] or host.count_marked_processes() > 0
        ),
    ),
    Attack(
        name="thread_bomb",
        gains="a machine that answers nobody",
        facts={"count": 500},
        control_facts={"count": 20},
        body="""
            import threading
            def attack():
                threading.stack_size(65536)
                started, end = 0, threading.Event()
                try:
                    for n in range(HOST["count"]):
                        threading.Thread(target=end.wait, daemon=True).start()
                        started += 1
                except RuntimeError:
                    pass
                end.set()
                return started
        """,
        succeeds=_at_least("count"),
        time_limit_s=3.0,
    ),
)


def _taking(name: str, gains: str, body: str, control_bytes: int, needs: str = "") -> Attack:
    """An attack that takes `HOST["bytes"]` in some way and returns how many it got."""
    return Attack(
        name=name,
        gains=gains,
        body=body,
        facts={"bytes": _TOO_MUCH, "asked": 32 << 30},
        control_facts={"bytes": control_bytes, "asked": 1 << 30},
        succeeds=_at_least("bytes"),
        needs=needs,
        memory_bytes=_LIMIT,
        time_limit_s=5.0,
    )


MEMORY = (
    _taking(
        "take_32_gib_at_once",
        "the memory of all others",
        """
            import mmap
            def attack():
                taken = mmap.mmap(-1, HOST["asked"], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                page, block = b"x", 1 << 20
                for start in range(0, HOST["bytes"], block):
                    taken[start:start + block] = page * block
                return HOST["bytes"]
        """,
        64 * MIB,
    ),
    _taking(
        "take_memory_piece_by_piece",
        "the memory of all others",
        """
            def attack():
                pieces = []
                while len(pieces) << 20 < HOST["bytes"]:
                    pieces.append(b"x" * (1 << 20))
                return len(pieces) << 20
        """,
        64 * MIB,
    ),
    _taking(
        "take_shared_memory",
        "memory that is not counted as its own",
        """
            import mmap
            def attack():
                pieces = []
                while len(pieces) << 24 < HOST["bytes"]:
                    pieces.append(mmap.mmap(-1, 1 << 24))
                    pieces[-1].write(b"x" * (1 << 24))
                return len(pieces) << 24
        """,
        32 * MIB,
    ),
    _taking(
        "take_memory_as_a_file_without_a_name",
        "memory that is not counted as its own",
        """
            def attack():
                file = kernel("memfd_create", b"x\\0", 0)
                written = 0
                while written < HOST["bytes"]:
                    written += os.write(file, b"x" * (1 << 20))
                return written
        """,
        MIB,
    ),
    _taking(
        "take_system_v_shared_memory",
        "memory that outlives the process",
        """
            def attack():
                # Marked for removal at once: gone when the last user is.
                segment = kernel("shmget", 0, HOST["bytes"], 0o1600)
                address = kernel("shmat", segment, 0, 0)
                libc.shmctl(ctypes.c_int(segment), 0, None)
                for start in range(0, HOST["bytes"], 1 << 20):
                    ctypes.memset(address + start, 1, 1 << 20)
                return HOST["bytes"]
        """,
        MIB,
        needs="System V shared memory",
    ),
    _taking(
        "fill_files",
        "the disk, or memory where a folder is a tmpfs",
        """
            def fill(folder):
                name = os.path.join(folder, HOST["marker"])
                file = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
                os.unlink(name)
                written = 0
                while written < HOST["bytes"]:
                    written += os.write(file, b"x" * (1 << 20))
                return written
            def attack():
                folders = [HOST["folder"], os.getcwd(), "/dev/shm", "/tmp", "/var/tmp", "/run"]
                return first_that_works([lambda f=f: fill(f) for f in folders])
        """,
        MIB,
    ),
)


def _lasting(name: str, body: str, gains: str = "a slot that is never free again") -> Attack:
    return Attack(name=name, gains=gains, body=body, succeeds=overran, time_limit_s=0.4, lasts=True)


TIME = (
    _lasting(
        "loop_and_ignore_everything",
        """
            def attack():
                for number in range(1, 65):
                    try:
                        signal.signal(number, signal.SIG_IGN)
                    except (OSError, ValueError):
                        pass
                while True:
                    try:
                        while True:
                            pass
                    except BaseException:
                        pass
        """,
    ),
    _lasting("loop_below_the_interpreter", "def attack():\n    return sum(range(10**13))"),
    _lasting("loop_while_it_is_loaded", "while True:\n    pass"),
    _lasting(
        "backtrack_in_a_pattern",
        "import re\ndef attack():\n    return re.match('(a|a)*$', 'a' * 60 + 'b') is None",
    ),
    _lasting("sleep", "def attack():\n    time.sleep(1000)"),
    _lasting("stop_itself", "def attack():\n    os.kill(os.getpid(), signal.SIGSTOP)"),
    _lasting(
        "wait_for_its_own_lock",
        "import threading\ndef attack():\n    lock = threading.Lock()\n    lock.acquire()\n"
        "    lock.acquire()",
    ),
    _lasting(
        "loop_in_many_threads",
        """
            import threading
            def loop():
                while True:
                    pass
            def attack():
                threading.stack_size(65536)
                for n in range(8):
                    threading.Thread(target=loop).start()
                loop()
        """,
    ),
)

ATTACKS = BOMBS + MEMORY + TIME
