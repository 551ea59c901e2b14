"""Attacks on other processes: reading them, stopping them, and leaving new ones behind."""

from dataclasses import replace

from selftaught.testing.attacks.attack import Attack, Report, secret_came_back
from selftaught.testing.attacks.attacked_host import AttackedHost


def _victim_is_dead(report: Report, host: AttackedHost) -> bool:
    return not host.is_victim_alive()


def _is_marked_left(report: Report, host: AttackedHost) -> bool:
    return host.count_marked_processes() > 0


READING = (
    Attack(
        name="read_the_environment_of_a_process",
        gains="keys of other programs",
        body="""
            def attack():
                pids = (HOST["victim"], HOST["pid"], os.getppid())
                return first_that_works([
                    lambda p=p: open(f"/proc/{p}/environ", "rb").read().decode() for p in pids])
        """,
        succeeds=secret_came_back,
    ),
    Attack(
        name="read_the_arguments_of_a_process",
        gains="passwords on command lines",
        body="""
            def attack():
                return open(f"/proc/{HOST['victim']}/cmdline", "rb").read()[-100:].decode()
        """,
        succeeds=secret_came_back,
    ),
    Attack(
        name="list_the_processes",
        gains="what runs here",
        body="""
            def attack():
                return [int(name) for name in os.listdir("/proc") if name.isdigit()]
        """,
        succeeds=lambda report, host: (
            isinstance(report.value, list) and host.facts["victim"] in report.value
        ),
    ),
    Attack(
        name="read_memory_through_proc",
        gains="everything that another process knows",
        needs="the right to trace a process of the same user",
        body="""
            def attack():
                memory = os.open(f"/proc/{HOST['victim']}/mem", os.O_RDONLY)
                return os.pread(memory, HOST["secret_length"], HOST["victim_address"]).decode()
        """,
        succeeds=secret_came_back,
    ),
    Attack(
        name="process_vm_readv",
        gains="everything that another process knows",
        needs="the right to trace a process of the same user",
        body="""
            def attack():
                size = HOST["secret_length"]
                here = ctypes.create_string_buffer(size)
                local = struct.pack("QQ", ctypes.addressof(here), size)
                remote = struct.pack("QQ", HOST["victim_address"], size)
                kernel("process_vm_readv", HOST["victim"], local, 1, remote, 1, 0)
                return here.raw.decode()
        """,
        succeeds=secret_came_back,
    ),
    Attack(
        name="ptrace",
        gains="full control of another process",
        needs="the right to trace a process of the same user",
        body="""
            def attack():
                c, victim = ctypes.c_long, HOST["victim"]
                checked(libc.ptrace(c(16), c(victim), c(0), c(0)))  # PTRACE_ATTACH
                os.waitpid(victim, 0)
                words = [libc.ptrace(c(2), c(victim), c(HOST["victim_address"] + n), c(0))
                         for n in range(0, HOST["secret_length"], 8)]  # PTRACE_PEEKDATA
                return struct.pack(f"{len(words)}q", *words).decode()
        """,
        succeeds=secret_came_back,
    ),
    Attack(
        name="take_a_descriptor_of_a_process",
        gains="open files and connections of another process",
        needs="the right to trace a process of the same user",
        body="""
            def attack():
                process = kernel("pidfd_open", HOST["victim"], 0)
                stolen = kernel("pidfd_getfd", process, HOST["victim_descriptor"], 0)
                return os.pread(stolen, 100, 0).decode()
        """,
        succeeds=secret_came_back,
    ),
)


def _kill(name: str, gains: str, statement: str) -> Attack:
    body = f"def attack():\n    victim = HOST['victim']\n    {statement}\n    return 'sent'\n"
    return Attack(name=name, gains=gains, body=body, succeeds=_victim_is_dead)


SIGNALLING = (
    _kill("kill", "the end of another process", "os.kill(victim, 9)"),
    _kill("killpg", "the end of a group of processes", "os.killpg(victim, 9)"),
    _kill("kill_by_thread", "the end of a process", "kernel('tgkill', victim, victim, 9)"),
    _kill(
        "kill_by_pidfd",
        "the end of another process",
        "kernel('pidfd_send_signal', kernel('pidfd_open', victim, 0), 9, 0, 0)",
    ),
    _kill(
        "kill_by_queued_signal",
        "the end of another process",
        "kernel('rt_sigqueueinfo', victim, 9, struct.pack('iii', 9, 0, -1) + bytes(116))",
    ),
    Attack(
        name="signal_the_parent",
        gains="the end of what runs the program; tried with signal 0, which only asks",
        body="def attack():\n    os.kill(os.getppid() or HOST['pid'], 0)\n    return 'may'",
    ),
    Attack(
        name="signal_process_one",
        gains="the end of everything here; tried with signal 0, which only asks",
        body="def attack():\n    os.kill(1, 0)\n    return 'may'",
        needs="root",
    ),
    Attack(
        name="signal_everything",
        gains="the end of all processes of the user; tried with signal 0, which only asks",
        body="def attack():\n    os.kill(-1, 0)\n    return 'may'",
    ),
    Attack(
        name="signal_a_sibling",
        gains="the end of other candidates; tried with signal 0, which only asks",
        body="""
            def attack():
                here = os.getpid()
                may = []
                nearby = {*range(2, 200), *range(max(2, here - 99), here + 99), HOST["victim"]}
                for pid in nearby - {here}:
                    try:
                        os.kill(pid, 0)
                        may.append(pid)
                    except OSError:
                        pass
                return may
        """,
    ),
    Attack(
        name="limit_another_process",
        gains="the failure of another process",
        body="""
            import resource
            def attack():
                resource.prlimit(HOST["victim"], resource.RLIMIT_NOFILE, (0, 0))
                return "done"
        """,
        succeeds=lambda report, host: host.is_victim_limited(),
    ),
)

STARTING = (
    Attack(
        name="fork",
        gains="a second process, with a memory limit of its own",
        body="""
            def attack():
                child = os.fork()
                if child == 0:
                    os._exit(0)
                os.waitpid(child, 0)
                return child
        """,
    ),
    Attack(
        name="fork_by_system_call",
        gains="a second process, past a front around os.fork",
        body="""
            def by(call):
                child = call()
                if child == 0:
                    os._exit(0)
                os.waitpid(child, 0)
                return child
            def attack():
                flags = struct.pack("11Q", 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
                calls = [lambda: kernel("fork", 17, 0, 0, 0, 0),
                         lambda: kernel("clone3", flags, 88)]
                if platform.machine() == "x86_64":  # clone; the x32 interface
                    calls += [lambda: checked(libc.syscall(ctypes.c_long(56), 17, 0, 0, 0, 0)),
                              lambda: checked(libc.syscall(ctypes.c_long(0x40000000 + 57)))]
                return first_that_works([lambda c=c: by(c) for c in calls])
        """,
    ),
    Attack(
        name="fork_by_32_bit_system_call",
        gains="calls that a filter for 64 bits does not see",
        needs="an x86_64 kernel with 32-bit emulation",
        # mov eax, 2; int 0x80; test eax, eax; jnz end; mov eax, 1; xor ebx, ebx; int 0x80;
        # end: cdqe; ret. The new process ends by itself at once.
        body="""
            def attack():
                if platform.machine() != "x86_64":
                    raise OSError(38, "not x86_64")
                import mmap
                page = mmap.mmap(-1, 4096, prot=7)
                page.write(bytes.fromhex(
                    "53" "b802000000" "cd80" "85c0" "7509" "b801000000" "31db" "cd80"
                    "5b" "4898" "c3"))
                address = ctypes.addressof(ctypes.c_char.from_buffer(page))
                child = ctypes.CFUNCTYPE(ctypes.c_long)(address)()
                if child < 0:
                    raise OSError(-child, os.strerror(-child))
                os.waitpid(child, 0)
                return child
        """,
    ),
    Attack(
        name="run_a_shell",
        gains="every program of the machine",
        body="""
            def attack():
                import subprocess
                done = subprocess.run(["/bin/sh", "-c", "echo " + HOST["word"][::-1]],
                                      capture_output=True, text=True)
                return done.stdout
        """,
        facts={"word": "ti-nar-llehs"},
        succeeds=lambda report, host: "shell-ran-it" in report.text,
    ),
    Attack(
        name="become_another_program",
        gains="a process without the interpreter's guards",
        body="""
            def attack():
                os.execv("/bin/sh", [HOST["marker"], "-c", "sleep 5; :"])
        """,
        facts={"watch": True},
        succeeds=lambda report, host: host.marker_was_seen,
        time_limit_s=0.5,
        lasts=True,
    ),
    Attack(
        name="leave_a_grandchild_behind",
        gains="a process that lives on after its program is judged",
        body="""
            def attack():
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0:
                        rename_process(HOST["marker"])
                        time.sleep(30)
                    os._exit(0)
                time.sleep(0.1)
                return "left"
        """,
        succeeds=_is_marked_left,
    ),
    Attack(
        name="leave_a_thread_behind",
        gains="time to compute after its program is judged",
        body="""
            def attack():
                import threading
                rename_process(HOST["marker"])
                threading.Thread(target=time.sleep, args=[30]).start()
                return "left"
        """,
        succeeds=_is_marked_left,
    ),
)


ATTACKS = (
    *(replace(attack, on_a_process=True) for attack in READING + SIGNALLING),
    *STARTING,
)
