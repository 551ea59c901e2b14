"""What a task permits works, within its bounds: folders, compilers, devices, the network."""

import os
import re
import shutil
import socket
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write_toy
from process_tree import below

from selftaught import permissions
from selftaught.errors import TaskError
from selftaught.history import export_program, export_suffix, read_history
from selftaught.improver import load_improver
from selftaught.pool import Attempt, ScoreJob
from selftaught.pools.local import LocalPool
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import start
from selftaught.sandbox.candidate import SandboxedCandidate
from selftaught.sandbox.compiled_candidate import CompiledCandidate
from selftaught.sandbox.evaluator import Evaluator
from selftaught.sandbox.grant import NOTHING, Grant, grant_for
from selftaught.sandbox.layers import STRONG, choose_layers
from selftaught.sandbox.permission_probes import found_toolchains, probe_permissions
from selftaught.sandbox.toolchain import find_toolchain
from selftaught.sandbox.zygote import Zygote, _host_pid
from selftaught.store.sqlite import SQLiteStore
from selftaught.task import Limits, Task
from selftaught.testing import ScriptedModel
from selftaught.utility import CandidateError, Outcome, Scored, kind

MIB = 1 << 20
KNAPSACK = str(Path(__file__).parent / "tasks" / "knapsack_c")
needs_all_layers = pytest.mark.skipif(
    choose_layers() != STRONG[0], reason="needs namespaces, Landlock and seccomp"
)
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
pytestmark = needs_all_layers


def call(zygote: Zygote, *lines: str, limits: Limits | None = None) -> object:
    """Run lines as a function of a fresh candidate."""
    source = "def f():\n" + "".join(f"    {line}\n" for line in lines)
    candidate = SandboxedCandidate(zygote, source, limits or Limits(), seed=1)
    try:
        return candidate.call("f")
    except CandidateError as error:
        return f"{kind(error.outcome)}: {error.outcome.reason}"
    finally:
        candidate.close()


@pytest.fixture(scope="module")
def private() -> Iterator[Zygote]:
    zygote = Zygote(STRONG[0], grant=Grant(tmp_bytes=MIB))
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def in_c() -> Iterator[Zygote]:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    zygote = Zygote(STRONG[0], grant=Grant(toolchain=find_toolchain("c")))
    yield zygote
    zygote.close()


# ---- a private folder


def test_the_private_folder_can_be_used_like_any(private: Zygote) -> None:
    assert call(
        private,
        "import os, shutil, tempfile",
        "os.mkdir('/tmp/a')",
        "open('/tmp/a/one', 'w').write('text')",
        "os.rename('/tmp/a/one', '/tmp/two')",
        "os.truncate(os.open('/tmp/two', os.O_RDWR), 2)",
        "kept = open('/tmp/two').read()",
        "shutil.rmtree('/tmp/a'); os.unlink('/tmp/two')",
        "with tempfile.TemporaryFile() as file: file.write(b'x')",
        "return [kept, os.listdir('/tmp')]",
    ) == ["te", []]


def test_sqlite_works_in_the_private_folder(private: Zygote) -> None:
    assert (
        call(
            private,
            "import sqlite3",
            "base = sqlite3.connect('/tmp/base')",
            "base.execute('create table t (n)')",
            "base.execute('insert into t values (7)')",
            "base.commit()",
            "return base.execute('select n from t').fetchone()[0]",
        )
        == 7
    )


def test_what_is_permitted_is_no_attempt(private: Zygote) -> None:
    source = "def f():\n    import os; open('/tmp/x', 'w'); os.remove('/tmp/x'); open('/etc/x')"
    candidate = SandboxedCandidate(private, source, Limits(), seed=1)
    with pytest.raises(CandidateError):
        candidate.call("f")
    candidate.close()
    assert candidate.attempts == [Attempt(what="open", detail="open '/etc/x' r")]


def test_nothing_else_can_be_written(private: Zygote) -> None:
    for path in ("/x", "/dev/x", "/usr/x", os.path.dirname(os.__file__) + "/x"):
        assert "refused" in str(call(private, f"open({path!r}, 'w')")), path
    for path in ("/tmp/../x", "/tmp/../../x"):
        assert "refused" in str(call(private, f"open({path!r}, 'w')")), path


def test_memory_and_private_files_share_one_limit(private: Zygote) -> None:
    limits = Limits(memory_bytes=24 * MIB, time_s=3.0)
    assert call(private, "return len(bytearray(16 << 20))", limits=limits) == 16 * MIB
    zygote = Zygote(STRONG[0], grant=Grant(tmp_bytes=16 * MIB))
    try:
        said = call(zygote, "return len(bytearray(16 << 20))", limits=limits)
    finally:
        zygote.close()
    assert str(said).startswith("out_of_memory")


def test_threads_share_the_limit_of_memory(private: Zygote) -> None:
    assert call(
        private,
        "import threading",
        "kept, trouble, started = [], [], []",
        "def take():",
        "    try: kept.append(bytearray(32 << 20))",
        "    except MemoryError as error: trouble.append(error)",
        "threading.stack_size(1 << 18)",
        "for n in range(8):",
        "    thread = threading.Thread(target=take)",
        "    try: thread.start(); started.append(thread)",
        "    except RuntimeError as error: trouble.append(error)",
        "[thread.join() for thread in started]",
        "return [len(kept) <= 3, len(trouble) > 0]",
        limits=Limits(memory_bytes=128 * MIB, time_s=3.0),
    ) == [True, True]


def test_neither_a_child_nor_a_compiled_program_has_a_capability(in_c: Zygote) -> None:
    """Their zygote keeps one, to mount; both must have given it up."""
    zygote = Zygote(STRONG[0], grant=Grant(tmp_bytes=MIB))
    child = zygote.fork(256 * MIB)
    builder = CompiledCandidate(in_c, "int main(void) { return 0; }", Limits())
    try:
        limits = {"cpu_limit_s": 5.0, "wall_limit_s": 20.0, "on_attempt": lambda attempt: None}
        child.send({"op": "load", "source": "", "work": 0, "seed": 0})
        child.receive(**limits)  # type: ignore[arg-type]
        builder.run("")
        assert builder._builder is not None
        for one in (child, builder._builder):
            held = (Path("/proc") / str(_host_pid(one._pidfd)) / "status").read_text()
            sets = re.findall(r"^Cap(?:Inh|Prm|Eff|Bnd|Amb):\s*(\S+)", held, re.MULTILINE)
            assert sets == ["0" * 16] * 5, held
    finally:
        child.close()
        builder.close()
        zygote.close()


# ---- paths to read


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter: as root, a candidate is nobody."""
    folder = Path(tempfile.mkdtemp(prefix="permissions-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_permitted_path_can_be_read_and_no_other(open_folder: Path) -> None:
    folder = open_folder / "permitted"
    folder.mkdir()
    (folder / "words").write_text("seven")
    (open_folder / "secret").write_text("hidden")
    for layers in (STRONG[0], STRONG[1]):
        zygote = Zygote(layers, grant=Grant(read=(str(folder),)))
        try:
            assert call(zygote, f"return open({str(folder / 'words')!r}).read()") == "seven"
            for path in (open_folder / "secret", folder / ".." / "secret"):
                assert "refused" in str(call(zygote, f"return open({str(path)!r}).read()"))
            assert "refused" in str(call(zygote, f"open({str(folder / 'words')!r}, 'a')"))
        finally:
            zygote.close()


# ---- devices and the network


def test_a_device_is_there_for_whom_it_is_permitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a harmless device in the place of a GPU's: none was there to try."""
    monkeypatch.setattr(permissions, "DEVICE_PATTERNS", ("/dev/full",))
    folder = write_toy(tmp_path / "toy")
    with (folder / "task.toml").open("a") as file:
        file.write("[permissions]\ndevices = ['/dev/full']\n")
    granted = grant_for(Task.load(str(folder)), STRONG[0], allow_network=False)
    assert granted.devices == ("/dev/full",)
    for grant, expected in ((granted, "[Errno 28]"), (NOTHING, "refused")):
        for layers in STRONG:
            zygote = Zygote(layers, grant=grant)
            try:
                said = call(zygote, "import os", "os.write(os.open('/dev/full', os.O_RDWR), b'x')")
            finally:
                zygote.close()
            assert expected in str(said), (layers, said)


def test_a_permitted_network_is_the_hosts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = ("import socket", f"socket.create_connection(('127.0.0.1', {port}), timeout=2)")
        for layers in STRONG:
            zygote = Zygote(layers, grant=Grant(network=True))
            try:
                assert call(zygote, *connect) is None, layers
                for kind_ in ("AF_UNIX", "AF_NETLINK", "AF_PACKET"):
                    said = call(zygote, "import socket", f"socket.socket(socket.{kind_})")
                    assert "refused: PermissionError" in str(said), (layers, kind_)
            finally:
                zygote.close()
        zygote = Zygote(STRONG[0])
        try:
            assert "refused" in str(call(zygote, *connect))
        finally:
            zygote.close()


def test_improvers_never_have_what_a_task_permits() -> None:
    pool = LocalPool(1, allow_network=True)
    try:
        assert pool.machine._zygote_starting(()).result().grant == NOTHING
    finally:
        pool.close()


def test_an_evaluator_keeps_one_zygote_per_set_of_permissions() -> None:
    evaluator = Evaluator(STRONG[0])
    try:
        plain, private = evaluator._zygote((), NOTHING), evaluator._zygote((), Grant(tmp_bytes=MIB))
        assert plain is not private
        assert evaluator._zygote((), Grant(tmp_bytes=MIB)) is private
        assert evaluator._zygote((), NOTHING) is plain
    finally:
        evaluator.close()


# ---- compilers

ECHO = {
    "c": """
        #include <stdio.h>
        int main(int n, char **words) {
            char line[100];
            if (fgets(line, 100, stdin)) printf("%s%s", line, n > 1 ? words[1] : "");
            return 0;
        }
    """,
    "c++": """
        #include <iostream>
        #include <thread>
        int main(int n, char **words) {
            std::string line;
            std::getline(std::cin, line);
            std::thread adder([&] { line += "\\n"; });
            adder.join();
            std::cout << line << (n > 1 ? words[1] : "");
        }
    """,
    "rust": """
        use std::io::{self, Read};
        use std::thread;
        fn main() {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).unwrap();
            let word = std::env::args().nth(1).unwrap_or_default();
            print!("{}", thread::spawn(move || text + &word).join().unwrap());
        }
    """,
    "go": """
        package main
        import ("fmt"; "io"; "os")
        func main() {
            text, _ := io.ReadAll(os.Stdin)
            word := ""
            if len(os.Args) > 1 { word = os.Args[1] }
            done := make(chan string)
            go func() { done <- string(text) + word }()
            fmt.Print(<-done)
        }
    """,
}


@pytest.mark.parametrize("language", ECHO)
def test_a_program_is_compiled_and_run(language: str) -> None:
    if language not in found_toolchains():
        pytest.skip(f"no compiler for {language}")
    zygote = Zygote(STRONG[0], grant=Grant(toolchain=find_toolchain(language)))  # type: ignore[arg-type]
    candidate = CompiledCandidate(zygote, textwrap.dedent(ECHO[language]), Limits(compile_s=60.0))
    try:
        assert candidate.run("häus\n", ("more",)) == "häus\nmore"
        assert candidate.run(b"again\n") == b"again\n"
    except CandidateError as error:
        pytest.fail(str(error.outcome))
    finally:
        candidate.close()
        zygote.close()


def ran(zygote: Zygote, body: str, limits: Limits | None = None) -> str:
    headers = ("errno", "fcntl", "signal", "stdio", "stdlib", "string", "unistd", "pthread")
    source = "".join(f"#include <{name}.h>\n" for name in headers) + body
    candidate = CompiledCandidate(zygote, source, limits or Limits(time_s=0.2, wall_s=8.0))
    try:
        return candidate.run("")
    except CandidateError as error:
        return f"{kind(error.outcome)}: {error.outcome.reason}"
    finally:
        candidate.close()


@pytest.mark.parametrize(
    ("expected", "body"),
    [
        ("failed: it exited with code 3: why", 'int main(void) { fputs("why", stderr); return 3; }'),
        ("failed: it was killed by signal 6", "int main(void) { abort(); }"),
        ("failed: it was killed by signal 11", "int main(void) { *(volatile int *) 0 = 1; }"),
        ("failed: it does not compile: program.c: In function", "int main(void) { return x }"),
        ("failed: it does not compile: ", "int other(void) { return 0; }"),
        ("timed_out: more than 0.2 s of CPU time", "int main(void) { for (;;) { } }"),
        ("timed_out: more than 8 s by the clock", "int main(void) { sleep(100); }"),
        ("timed_out: ", "int main(void) { for (int n = 1; n < 65; n++) signal(n, SIG_IGN); for (;;) { } }"),
        ("invalid_value: it printed more than", 'int main(void) { for (;;) puts("flood"); }'),
        ("invalid_value: the output is no UTF-8", "int main(void) { putchar(255); }"),
        ("13", 'int main(void) { printf("%d", open("/build/program.c", O_RDONLY) < 0 ? errno : 0); }'),
        ("1", 'int main(void) { printf("%d", fork() < 0 ? errno : 0); }'),
        ("1", 'int main(void) { printf("%d", kill(1, SIGINT) < 0 ? errno : 0); }'),
        ("30", 'int main(void) { printf("%d", open("/tmp/x", O_CREAT | O_WRONLY, 0600) < 0 ? errno : 0); }'),
        ("13", 'int main(void) { printf("%d", open("/build/x", O_CREAT | O_WRONLY, 0600) < 0 ? errno : 0); }'),
        ("0", 'int main(void) { extern char **environ; int n = 0; for (; environ[n]; n++) if (strstr(environ[n], "KEY")) return 1; printf("0"); }'),
    ],
)  # fmt: skip
def test_how_a_compiled_program_ends(in_c: Zygote, expected: str, body: str) -> None:
    assert ran(in_c, body).startswith(expected)


def test_words_of_the_compiler_are_capped(in_c: Zygote) -> None:
    said = ran(in_c, "int main(void) { " + "undefined_thing(;\n" * 2_000 + "}")
    assert said.startswith("failed: it does not compile")
    assert len(said) < 2_300


def test_compiling_has_an_end(in_c: Zygote) -> None:
    slow = "#define A(x) x x x x x x x x\n#define B(x) A(A(A(A(x))))\n"
    started = time.monotonic()
    said = ran(in_c, slow + "int main(void) { int n = 0; B(B(n++;)) }", Limits(compile_s=0.3))
    assert said.startswith("timed_out: compiling it took more than")
    assert time.monotonic() - started < 15.0


def test_threads_of_a_compiled_program_share_its_limits(in_c: Zygote) -> None:
    body = """
        static void *take(void *unused) {
            long n = 0;
            for (char *p; n < 64 && (p = malloc(1 << 20)); n++) memset(p, 1, 1 << 20);
            return (void *) n;
        }
        int main(void) {
            pthread_t threads[4];
            for (int n = 0; n < 4; n++) if (pthread_create(threads + n, 0, take, 0)) return 1;
            long sum = 0;
            for (int n = 0; n < 4; n++) { void *got; pthread_join(threads[n], &got); sum += (long) got; }
            printf("%d", sum > 16 && sum < 128);
        }
    """
    assert ran(in_c, body, Limits(memory_bytes=128 * MIB, time_s=3.0)) == "1"


def test_a_program_is_compiled_once_and_each_run_is_a_fresh_process(in_c: Zygote) -> None:
    source = '#include <stdio.h>\nstatic int n;\nint main(void) { printf("%d", ++n); return 0; }\n'
    candidate = CompiledCandidate(in_c, source, Limits())
    try:
        assert [candidate.run("") for _ in range(3)] == ["1", "1", "1"]
        builder = candidate._builder
        assert candidate.run("") == "1"
        assert candidate._builder is builder
    finally:
        candidate.close()


def test_the_private_folder_of_a_compiled_program_lasts_for_an_evaluation() -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    zygote = Zygote(STRONG[0], grant=Grant(tmp_bytes=MIB, toolchain=find_toolchain("c")))
    source = """
        #include <stdio.h>
        int main(void) {
            int n = 0;
            FILE *file = fopen("/tmp/count", "r");
            if (file) { if (fscanf(file, "%d", &n) != 1) return 1; fclose(file); }
            file = fopen("/tmp/count", "w");
            fprintf(file, "%d", n + 1);
            printf("%d", n);
            return fclose(file);
        }
    """
    try:
        for _ in range(2):
            candidate = CompiledCandidate(zygote, source, Limits())
            assert [candidate.run("") for _ in range(3)] == ["0", "1", "2"]
            candidate.close()
    finally:
        zygote.close()


def test_nothing_is_left_when_a_candidate_is_closed_in_the_middle(in_c: Zygote) -> None:
    def programs() -> set[str]:
        names = [path / "comm" for path in Path("/proc").glob("[0-9]*")]
        return {name.parent.name for name in names if _read(name) == "program\n"}

    def mine() -> set[str]:
        """Programs below the zygote: other tests run some at the same time."""
        started = {one.split()[0] for one in below(in_c._process.pid)}
        return programs() & started

    assert not mine()
    source = "#include <unistd.h>\nint main(void) { close(1); close(2); for (;;) pause(); }\n"
    candidate = CompiledCandidate(in_c, source, Limits(time_s=1.0, wall_s=1.0))
    with pytest.raises(CandidateError):
        candidate.run("")
    assert not mine()
    candidate.close()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@needs_gcc
def test_the_task_in_c_scores(pool: LocalPool) -> None:
    task = Task.load(KNAPSACK)

    def score(source: str) -> Outcome:
        solution = task.initial.rewritten(source)
        return pool.score(ScoreJob(task=task, solution=solution, split="val"))

    first = score(task.initial.source)
    assert isinstance(first, Scored)
    assert first == score(task.initial.source)
    empty = score("int main(void) { return 0; }\n")
    assert isinstance(empty, Scored)
    assert empty.value == 0.0 < first.value < 1.0
    broken = score("int main(void) { return x; }\n")
    assert kind(broken) == "failed"
    assert "'x' undeclared" in broken.reason  # type: ignore[union-attr]


GREEDY = """```c
#include <stdio.h>
#include <stdlib.h>
static long value[1000], weight[1000];
static int by_density(const void *a, const void *b) {
    long i = *(const int *) a, j = *(const int *) b;
    long left = value[j] * weight[i], right = value[i] * weight[j];
    return (left > right) - (left < right);
}
int main(void) {
    long n, capacity;
    static int order[1000];
    if (scanf("%ld %ld", &n, &capacity) != 2) return 1;
    for (int i = 0; i < n; i++) {
        if (scanf("%ld %ld", value + i, weight + i) != 2) return 1;
        order[i] = i;
    }
    qsort(order, n, sizeof *order, by_density);
    for (int i = 0; i < n; i++)
        if (weight[order[i]] <= capacity) {
            capacity -= weight[order[i]];
            printf("%d\\n", order[i]);
        }
}
```"""


@needs_gcc
def test_a_run_improves_a_program_in_c_and_exports_it(tmp_path: Path) -> None:
    model = ScriptedModel(lambda request, seed, n: [GREEDY] * request.n_responses)
    config = RunConfig(
        command="improve",
        tasks=(KNAPSACK,),
        improvers=(("seed", load_improver("seed").source),),
        model="custom:scripted",
    )
    store = str(tmp_path / "s.db")
    run = start(config, store, model=model)
    (made,) = run.improvements
    assert made.program.language == "c"
    assert isinstance(made.validation, Scored)
    assert made.validation.value > 0.95
    with SQLiteStore.open(store, writable=False) as opened:
        text = export_program(opened, "latest")
        assert export_suffix(opened, "latest") == ".c"
        assert read_history(opened, "latest").config.permits == {
            "knapsack_c": ("being compiled as c",)
        }
    assert text.startswith("// Made by selftaught")
    zygote = Zygote(STRONG[0], grant=Grant(toolchain=find_toolchain("c")))
    candidate = CompiledCandidate(zygote, text, Limits())
    try:
        assert candidate.run("2 5\n1 5\n9 5\n") == "1\n"
    finally:
        candidate.close()
        zygote.close()


@needs_gcc
def test_the_wrong_way_to_use_a_candidate_is_the_tasks_defect(
    in_c: Zygote, private: Zygote
) -> None:
    compiled = CompiledCandidate(in_c, "int main(void) { return 0; }", Limits())
    with pytest.raises(TaskError, match=r"solution\.run"):
        compiled.call("algorithm")
    with pytest.raises(TaskError, match="code 0"):
        compiled.run("", ("a\0b",))
    with pytest.raises(TaskError, match="at most"):
        compiled.run(bytes((32 << 20) + 1))
    compiled.close()
    with pytest.raises(TaskError, match=r"solution\.call"):
        SandboxedCandidate(private, "x = 1", Limits(), seed=1).run("")


def test_every_probe_of_permissions_is_refused() -> None:
    probes = probe_permissions(STRONG[0])
    assert len(probes) >= 2
    for probe in probes:
        assert probe.refused, f"{probe.name}: {probe.evidence}"
    assert probe_permissions(STRONG[1]) == []
