"""The rules that keep the code readable, as tests: layers, cycles, sizes, broad excepts, names."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "selftaught"

# From the words up. A module imports from its own or a lower layer, never from a higher one.
LAYERS = [
    {
        "version",
        "errors",
        "fences",
        "solution",
        "budget",
        "statistics",
        "redaction",
        "plain_text",
        "source_diff",
    },
    {
        "utility",
        "permissions",
        "task",
        "language_model",
        "improver",
        "pool",
        "events",
        "sequential",
    },
    {"meta_utility", "acceptance", "algorithm", "transfer", "improvement", "anytime", "compare"}
    | {"audit", "strategies"},
    {"sandbox", "store", "mutation", "models", "pools"},
    {"runs", "history", "strategies_used", "task_check"},
    {"cli", "report", "testing", "__main__"},
]
# Mechanism builds on the words and the domain only; the algorithm knows no mechanism.
FORBIDDEN = [("sandbox", layer) for layer in LAYERS[2]] + [
    ("mutation", name) for name in ("sandbox", "store", "pools", "models", "task", "pool")
]
GUEST_MAY_IMPORT = {
    "apart", "compiled", "improver_api", "landlock", "namespaces", "runner", "seccomp", "syscalls", "wire", "work",
    "numpy",
}  # fmt: skip
MAX_LINES = 420
MAX_ALGORITHM_LINES = 200
BROAD = {"Exception", "BaseException"}
# Each is at the boundary to untrusted or trusted-but-foreign code, or the last line of the CLI.
MAY_CATCH_BROADLY = {
    "pool.py": 1,
    "sandbox/guest/runner.py": 2,
    "sandbox/evaluator.py": 1,
    "runs/execution.py": 1,
    "cli/__init__.py": 1,
    "models/side_by_side.py": 1,
}
BANNED_NAMES = ("utils", "helpers", "manager", "engine", "controller", "common", "misc")


def modules() -> dict[str, Path]:
    files = sorted(SOURCE.rglob("*.py"))
    data = (SOURCE / "tasks", SOURCE / "improvers", SOURCE / "sandbox" / "guest")
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
        for path in files
        if not any(folder in path.parents for folder in data)
    }


def imported(path: Path, *, at_import: bool = False) -> set[str]:
    """The modules of this package that a file imports, as names below `selftaught`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(_top_level(tree)) if at_import else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("selftaught"):
            base = (node.module or "").removeprefix("selftaught").lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                found.add(full if _is_module(full) else base)
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("selftaught").lstrip(".")
                for alias in node.names
                if alias.name.startswith("selftaught")
            }
    return found - {""}


def _top_level(tree: ast.Module) -> list[ast.stmt]:
    return [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]


def _is_module(name: str) -> bool:
    path = SOURCE.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def layer(name: str) -> int:
    top = name.split(".")[0]
    for number, names in enumerate(LAYERS):
        if top in names:
            return number
    raise AssertionError(f"{name} is in no layer; add it to LAYERS")


@pytest.mark.parametrize("name", [n for n in modules() if n != "__init__"])
def test_imports_go_down(name: str) -> None:
    for other in imported(modules()[name]):
        assert layer(other) <= layer(name), f"{name} imports {other} from a higher layer"
        assert (name.split(".")[0], other.split(".")[0]) not in FORBIDDEN, f"{name} <- {other}"


def test_there_is_no_import_cycle() -> None:
    graph = {n: imported(p, at_import=True) for n, p in modules().items() if n != "__init__"}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"import cycle: {' -> '.join((*path, name))}"
        if name in done:
            return
        for other in graph.get(name, ()):
            visit(other, (*path, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    "path", sorted((SOURCE / "sandbox" / "guest").glob("*.py")), ids=lambda p: p.stem
)
def test_the_guest_imports_the_standard_library_and_its_siblings_only(path: Path) -> None:
    import sys

    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            top = name.split(".")[0]
            assert top in GUEST_MAY_IMPORT or top in sys.stdlib_module_names, name


def test_files_can_be_read_in_one_sitting() -> None:
    for path in SOURCE.rglob("*.py"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MAX_LINES, f"{path.name} has {lines} lines"
    algorithm = (SOURCE / "algorithm.py").read_text(encoding="utf-8").splitlines()
    assert len(algorithm) <= MAX_ALGORITHM_LINES


def test_broad_excepts_stand_only_where_they_are_meant() -> None:
    found: dict[str, int] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and _is_broad(node):
                name = str(path.relative_to(SOURCE))
                found[name] = found.get(name, 0) + 1
    found = {name: n for name, n in found.items() if not name.startswith("improvers/")}
    assert found == MAY_CATCH_BROADLY


def _is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    # One that raises again on its last line catches nothing.
    is_reraised = isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None
    names = {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)}
    return bool(names & BROAD) and not (is_reraised and "BaseException" in names)


def test_names_say_what_things_are() -> None:
    for path in SOURCE.rglob("*"):
        assert path.stem not in BANNED_NAMES, path


def test_nothing_is_left_to_be_done() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for word in ("TODO", "FIXME"):
            assert word not in text, f"{path.name} holds a {word}"


def test_nothing_prints_but_the_command_line() -> None:
    for name, path in modules().items():
        if name.split(".")[0] in ("cli", "testing"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", name


# Processes and commands of one thread, or a type that one thread alone needs.
ONE_THREAD = {
    "sandbox/evaluator.py", "models/recording.py", "models/local.py", "models/local_server.py",
    "pools/nodes/starting.py", "pools/nodes/agent.py",
}  # fmt: skip


def test_types_are_known_before_threads_need_them() -> None:
    """`msgspec.json.decode(..., type=...)` crashes where two threads are the first to need it."""
    late = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if re.search(r"json\.decode\(.*type=", path.read_text())
    }
    assert late == ONE_THREAD
