"""Attacks on the kernel: calls that change what a process may do, or that are seldom tested."""

from selftaught.testing.attacks.attack import Attack


def _call(name: str, gains: str, expression: str, needs: str = "") -> Attack:
    """An attack of one call, which counts as done where it did not fail."""
    body = f"def attack():\n    {expression}\n    return 'done'\n"
    return Attack(name=name, gains=gains, body=body, needs=needs)


NAMESPACES = (
    _call(
        "unshare_users",
        "root's rights in a namespace of its own",
        "kernel('unshare', 0x10000000)",
        needs="unprivileged user namespaces",
    ),
    _call("unshare_network", "a network of its own", "kernel('unshare', 1 << 30)", needs="root"),
    _call(
        "enter_a_namespace",
        "the world outside",
        "first_that_works([lambda p=p: kernel('setns', os.open(p, os.O_RDONLY), 0)\n"
        "        for p in ('/proc/self/ns/uts', '/proc/1/ns/mnt', '/dev/null')])",
        needs="root",
    ),
    Attack(
        name="mount",
        gains="another view of files",
        needs="root",
        body="""
            def attack():
                def mounted(place):
                    flags = ctypes.c_ulong(0)
                    checked(libc.mount(b"none", place.encode(), b"tmpfs", flags, None))
                    checked(libc.umount2(place.encode(), 2))
                    return place
                return first_that_works([
                    lambda p=p: mounted(p) for p in (HOST["package"], "/tmp", "/dev", "/")])
        """,
    ),
    _call("open_a_file_system", "a mount", "kernel('fsopen', b'tmpfs\\0', 0)", needs="root"),
    _call("clone_a_mount", "a mount", "kernel('open_tree', -100, b'/\\0', 1)", needs="root"),
    _call("chroot", "a way out of a root folder", "os.chroot('/')", needs="root"),
)

INTERFACES = (
    _call(
        "bpf",
        "programs in the kernel",
        "kernel('bpf', 0, struct.pack('5I', 2, 4, 4, 1, 0) + bytes(100), 120)",
        needs="root, or unprivileged bpf",
    ),
    _call(
        "io_uring",
        "system calls that no filter sees",
        "kernel('io_uring_setup', 1, bytes(120))",
        needs="a kernel with io_uring",
    ),
    _call(
        "userfaultfd",
        "control of when the kernel goes on",
        "kernel('userfaultfd', 1)",
        needs="a kernel with userfaultfd",
    ),
    _call(
        "perf_event_open",
        "a wide interface, and a clock for side channels",
        "kernel('perf_event_open', struct.pack('IIQ', 1, 120, 0) + bytes(24)\n"
        "        + struct.pack('Q', 0x60) + bytes(72), 0, -1, -1, 0)",
        needs="root, or perf_event_paranoid below 3",
    ),
    _call(
        "add_a_key",
        "keyrings, which outlive the process",
        "kernel('add_key', b'user\\0', b'mark\\0', b'x', 1, -2)",
        needs="a kernel with keyrings",
    ),
    _call("fanotify", "what others open", "kernel('fanotify_init', 0, 0)", needs="root"),
    _call("kernel_log", "addresses", "kernel('syslog', 10, 0, 0)", needs="root"),
)

RIGHTS = (
    Attack(
        name="raise_its_own_limits",
        gains="more than it was given",
        body="""
            import resource
            def attack():
                raised = []
                for name in ("AS", "NOFILE", "NPROC", "FSIZE", "CORE", "STACK", "MEMLOCK"):
                    kind = getattr(resource, "RLIMIT_" + name)
                    soft, hard = resource.getrlimit(kind)
                    for wanted in ((-1, -1), (hard, hard)):
                        try:
                            resource.setrlimit(kind, wanted)
                        except (OSError, ValueError):
                            continue
                        if resource.getrlimit(kind) != (soft, hard):
                            raised.append(name)
                            break
                return raised
        """,
        needs="a soft limit below a hard one, or root",
    ),
    _call("raise_its_own_priority", "others' time", "os.nice(-5)", needs="root"),
    _call(
        "run_in_real_time",
        "all of a core",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
        needs="root",
    ),
)

ATTACKS = NAMESPACES + INTERFACES + RIGHTS
