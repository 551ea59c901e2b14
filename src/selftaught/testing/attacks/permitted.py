"""Attacks on what the permissions of a task open: each goes beyond what it was permitted.

They are no part of `ATTACKS`, since a sandbox may permit nothing at all. `PermissionContract` runs
them, each under its own permissions and, as a control, without a sandbox.
"""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from selftaught.testing.attacks.attack import (
    MIB,
    Attack,
    Report,
    filled_the_host,
    overran,
    secret_came_back,
)
from selftaught.testing.attacks.attacked_host import AttackedHost

# A private folder and a limit of memory that it is part of.
_TMP_BYTES, _MEMORY_BYTES = 32 * MIB, 96 * MIB
_C_PRELUDE = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
static int refused(void) { fprintf(stderr, "%s", strerror(errno)); return 1; }
"""


@dataclass(frozen=True, kw_only=True)
class PermittedAttack(Attack):
    """An attack under permissions.

    Attributes:
        permits: as `[permissions]` of a task has them; in texts, `{permitted}` is a folder of the
            attacked host that holds `data.txt` and the link `out` to the secret file.
        agreed: whether the operator agrees to the network.
        language: `python`, or `c`: then `body` is a program with a `main`, and what it prints
            while it exits with 0 is its value.
        beside: a program that runs before and is still there while the attack is made.
    """

    permits: Mapping[str, Any] = field(default_factory=dict)
    agreed: bool = False
    language: str = "python"
    beside: str = ""

    def programs(self, facts: dict[str, Any]) -> list[str]:
        """Return the program texts to run one after another, each complete in itself."""
        if self.language == "python":
            first = [self.beside] if self.beside else []
            bodies = [*first, *([self.body, self.afterwards] if self.afterwards else [self.body])]
            return [_python(facts, body) for body in bodies]
        defined = [f"#define HOST_{k.upper()} {_in_c(v)}" for k, v in facts.items() if _plain(v)]
        return ["\n".join(defined) + _C_PRELUDE + textwrap.dedent(self.body)]


def _python(facts: dict[str, Any], body: str) -> str:
    (program,) = Attack(name="", gains="", body=body).programs(facts)
    return program


def _plain(value: object) -> bool:
    return type(value) in (str, int)


def _in_c(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if isinstance(value, str) else text


def _at_least(report: Report, host: AttackedHost) -> bool:
    wanted: int = host.facts["bytes"]
    return report.number >= wanted


def _word_came_back(report: Report, host: AttackedHost) -> bool:
    return report.ended == "returned" and "it-got-there" in report.text


_WORD = {"word": "ereht-tog-ti"}

FOLDERS = (
    PermittedAttack(
        name="fill_more_than_the_private_folder_holds",
        gains="memory that nobody granted",
        permits={"tmp_bytes": MIB},
        facts={"bytes": 8 * MIB},
        control_facts={"bytes": MIB},
        body="""
            def attack():
                written = 0
                for n in range(64):
                    with open(os.path.join(HOST["tmp"], HOST["marker"] + str(n)), "wb") as file:
                        written += file.write(b"x" * (HOST["bytes"] // 64))
                return written
        """,
        succeeds=_at_least,
    ),
    PermittedAttack(
        name="fill_the_private_folder_with_entries",
        gains="memory of the kernel's that no size counts",
        permits={"tmp_bytes": MIB},
        facts={"bytes": 50_000},
        control_facts={"bytes": 100},
        body="""
            def attack():
                start = os.path.join(HOST["tmp"], HOST["marker"])
                for n in range(HOST["bytes"]):
                    os.close(os.open(start + str(n), os.O_CREAT))
                return HOST["bytes"]
        """,
        succeeds=_at_least,
        time_limit_s=5.0,
    ),
    PermittedAttack(
        name="take_memory_as_private_files",
        gains="memory beyond the limit, by keeping a part of it in files",
        permits={"tmp_bytes": _TMP_BYTES},
        facts={"bytes": _MEMORY_BYTES + 8 * MIB, "files": _TMP_BYTES - MIB},
        control_facts={"bytes": 4 * MIB, "files": MIB},
        memory_bytes=_MEMORY_BYTES,
        body="""
            def attack():
                written, pieces = 0, []
                with open(os.path.join(HOST["tmp"], HOST["marker"]), "wb") as file:
                    while written < HOST["files"]:
                        written += file.write(b"x" * (1 << 18))
                while written + (len(pieces) << 20) < HOST["bytes"]:
                    pieces.append(b"x" * (1 << 20))
                return HOST["bytes"]
        """,
        succeeds=_at_least,
        time_limit_s=5.0,
    ),
    PermittedAttack(
        name="read_the_private_folder_of_another_candidate",
        gains="what another program computed",
        permits={"tmp_bytes": MIB},
        facts=_WORD,
        beside="""
            def attack():
                with open(os.path.join(HOST["tmp"], HOST["marker"]), "w") as file:
                    file.write(HOST["word"][::-1])
        """,
        body="""
            def attack():
                return open(os.path.join(HOST["tmp"], HOST["marker"])).read()
        """,
        succeeds=_word_came_back,
    ),
    PermittedAttack(
        name="leave_a_file_to_the_next_candidate",
        gains="a message to later programs",
        permits={"tmp_bytes": MIB},
        facts=_WORD,
        body="""
            def attack():
                with open(os.path.join(HOST["tmp"], HOST["marker"]), "w") as file:
                    file.write(HOST["word"][::-1])
        """,
        afterwards="""
            def attack():
                return open(os.path.join(HOST["tmp"], HOST["marker"])).read()
        """,
        succeeds=_word_came_back,
    ),
    PermittedAttack(
        name="link_from_the_private_folder",
        gains="a file outside, by a name inside",
        permits={"tmp_bytes": MIB},
        body="""
            def attack():
                def through(link):
                    name = os.path.join(HOST["tmp"], HOST["marker"])
                    link(HOST["secret_file"], name)
                    return open(name).read()
                return first_that_works([lambda: through(os.symlink), lambda: through(os.link)])
        """,
        succeeds=secret_came_back,
    ),
    PermittedAttack(
        name="execute_what_it_wrote",
        gains="a program that nobody looked at",
        permits={"tmp_bytes": MIB},
        facts=_WORD,
        body="""
            def attack():
                import subprocess
                name = os.path.join(HOST["tmp"], HOST["marker"])
                file = os.open(name, os.O_CREAT | os.O_WRONLY, 0o700)
                os.write(file, b"#!/bin/sh\\necho " + HOST["word"][::-1].encode())
                os.close(file)
                return subprocess.run([name], capture_output=True, text=True).stdout
        """,
        succeeds=_word_came_back,
    ),
    PermittedAttack(
        name="leave_a_permitted_folder_by_dots",
        gains="the files beside what was permitted",
        permits={"read": ["{permitted}"]},
        body="""
            def attack():
                file = os.open("../secret.txt", os.O_RDONLY,
                               dir_fd=os.open(HOST["permitted"], os.O_RDONLY))
                return os.read(file, 100).decode()
        """,
        succeeds=secret_came_back,
    ),
    PermittedAttack(
        name="leave_a_permitted_folder_by_a_symbolic_link",
        gains="whatever a link in it points to",
        permits={"read": ["{permitted}"]},
        body="def attack():\n    return open(os.path.join(HOST['permitted'], 'out')).read()",
        succeeds=secret_came_back,
    ),
    PermittedAttack(
        name="write_where_it_may_read",
        gains="another's data",
        permits={"read": ["{permitted}"]},
        body="""
            def attack():
                with open(os.path.join(HOST["permitted"], "data.txt"), "w") as file:
                    file.write("changed")
        """,
        succeeds=lambda report, host: host.read("permitted/data.txt") != "data",
    ),
)

NETWORK = (
    PermittedAttack(
        name="connect_without_the_operators_word",
        gains="the host's network",
        permits={"network": True},
        body="""
            import socket
            def attack():
                socket.create_connection(tuple(HOST["tcp_address"]), timeout=1).close()
        """,
        succeeds=lambda report, host: host.was_contacted("tcp"),
    ),
    PermittedAttack(
        name="reach_a_unix_socket_where_the_network_is_permitted",
        gains="services of the host that trust whoever can reach them",
        permits={"network": True},
        agreed=True,
        body="""
            import socket
            def attack():
                def reach(address):
                    with socket.socket(socket.AF_UNIX) as one:
                        one.connect(address)
                    return "reached"
                return first_that_works([lambda a=HOST[f"{k}_address"]: reach(a)
                                         for k in ("unix", "abstract")])
        """,
        succeeds=lambda report, host: host.was_contacted("unix") or host.was_contacted("abstract"),
    ),
)


def _c(name: str, gains: str, body: str, **more: Any) -> PermittedAttack:
    permits = {"compiler": "c", **more.pop("permits", {})}
    return PermittedAttack(
        name=name, gains=gains, body=body, language="c", permits=permits, needs="gcc", **more
    )


_SHELL = """
int main(void) {
    char command[99] = "echo ", *end = command + 5;
    for (size_t n = strlen(HOST_WORD); n > 0; n--) *end++ = HOST_WORD[n - 1];
    *end = 0;
    execl("/bin/sh", "sh", "-c", command, (char *) 0);
    return refused();
}
"""
_COMPILER = """
int main(void) {
    execl(HOST_COMPILER, "gcc", "--version", (char *) 0);
    return refused();
}
"""
_FORK_BOMB = """
int main(void) {
    for (int n = 0; n < HOST_COUNT; n++) {
        pid_t child = fork();
        if (child < 0) return refused();
        if (child == 0) { prctl(PR_SET_NAME, HOST_MARKER); sleep(20); _exit(0); }
    }
    usleep(100000);
    puts("all of them");
    return 0;
}
"""
_GRANDCHILD = """
int main(void) {
    pid_t child = fork();
    if (child < 0) return refused();
    if (child == 0) {
        setsid();
        if (fork() == 0) { prctl(PR_SET_NAME, HOST_MARKER); sleep(30); }
        _exit(0);
    }
    usleep(100000);
    return 0;
}
"""
_COPY_ITSELF = """
int main(int count, char **arguments) {
    if (count > 1) { puts("it-got-there"); return 0; }
    char block[65536], name[300];
    snprintf(name, sizeof name, "%s/%s", HOST_TMP, HOST_MARKER);
    int from = open(arguments[0], O_RDONLY), to = open(name, O_CREAT | O_WRONLY, 0700);
    if (from < 0 || to < 0) return refused();
    for (ssize_t n; (n = read(from, block, sizeof block)) > 0;)
        if (write(to, block, n) != n) return refused();
    close(to);
    execl(name, name, "again", (char *) 0);
    return refused();
}
"""
_TAKE_MEMORY = """
int main(void) {
    for (long taken = 0; taken < HOST_BYTES; taken += 1 << 20) {
        char *piece = malloc(1 << 20);
        if (!piece) return refused();
        for (int n = 0; n < 1 << 20; n += 1024) ((volatile char *) piece)[n] = 1;
    }
    puts("it-got-there");
    return 0;
}
"""
_EMBED = """
__asm__(".globl held\\nheld: .incbin \\"" HOST_SECRET_FILE "\\"\\n.byte 0\\n");
extern char held[];
int main(void) { puts(held); return 0; }
"""

COMPILED = (
    _c("run_a_shell_from_a_compiled_program", "every program of the machine", _SHELL,
       facts=_WORD, succeeds=_word_came_back),
    _c("run_the_compiler_from_a_compiled_program", "a program that was permitted to another",
       _COMPILER, succeeds=lambda report, host: "Free Software" in report.text),
    _c("fork_bomb_from_a_compiled_program", "a machine that answers nobody", _FORK_BOMB,
       facts={"count": 500}, control_facts={"count": 1},
       succeeds=lambda report, host: (
           "all of them" in report.text or host.count_marked_processes() > 0)),
    _c("leave_a_grandchild_of_a_compiled_program", "a process that lives on", _GRANDCHILD,
       succeeds=lambda report, host: host.count_marked_processes() > 0),
    _c("execute_a_copy_of_itself", "a program outside of what may be executed", _COPY_ITSELF,
       permits={"tmp_bytes": MIB}, succeeds=_word_came_back),
    _c("include_a_secret_file", "whatever any file holds, as words of the compiler",
       "#include HOST_SECRET_FILE\nint main(void) { return 0; }", succeeds=secret_came_back),
    _c("embed_a_secret_file", "whatever any file holds, as a part of the program", _EMBED,
       succeeds=secret_came_back),
    _c("compile_without_end", "a slot that is never free again",
       "#define A(x) x x x x x x x x\n#define B(x) A(A(A(A(x))))\n"
       "int main(void) { int n = 0; B(B(n++;)) return n; }",
       succeeds=overran, lasts=True, time_limit_s=0.5),
    _c("loop_in_a_compiled_program", "a slot that is never free again",
       "int main(void) { for (;;) { } }", succeeds=overran, lasts=True, time_limit_s=0.5),
    _c("sleep_in_a_compiled_program", "a slot that is never free again",
       "int main(void) { sleep(1000); return 0; }", succeeds=overran, lasts=True,
       time_limit_s=0.5),
    _c("take_memory_in_a_compiled_program", "the memory of all others", _TAKE_MEMORY,
       facts={"bytes": 4 * _MEMORY_BYTES}, control_facts={"bytes": 8 * MIB},
       memory_bytes=_MEMORY_BYTES, succeeds=_word_came_back),
    _c("print_a_flood_in_a_compiled_program", "the memory of the host",
       'int main(void) { for (long n = 0; n < HOST_BYTES / 50; n++)\n'
       'puts("0123456789012345678901234567890123456789012345678"); return 0; }',
       facts={"bytes": 200 * MIB}, control_facts={"bytes": 64 * MIB},
       succeeds=filled_the_host, time_limit_s=5.0),
)  # fmt: skip

PERMITTED_ATTACKS: tuple[PermittedAttack, ...] = (*FOLDERS, *NETWORK, *COMPILED)
