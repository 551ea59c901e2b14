"""The documentation says what is: its scripts run, its commands parse, its links and names exist."""

import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import typer

import selftaught
from selftaught import events, pool, task, transfer, utility
from selftaught.cli import app, running
from selftaught.mutation.operators import FIRST_ORDER
from selftaught.mutation.templates import TEMPLATES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
COMMANDS: Any = typer.main.get_command(app)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OF_REPOSITORY = re.compile(r"(src|tests|docs|bench)/[\w./-]+")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text_of(path)) if kind == language]


def prose(path: Path) -> str:
    return FENCE.sub("", text_of(path))


def in_backticks(path: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(path))


def page(name: str) -> str:
    return text_of(DOCS / name)


def tags(union: Any) -> set[str]:
    return {member.__struct_config__.tag for member in union.__args__}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", blocks(README, "python"))
def test_the_scripts_of_the_readme_run(script: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "def improve_algorithm" in done.stdout


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_python_in_the_documentation_compiles(path: Path) -> None:
    for block in blocks(path, "python"):
        compile(block, name_of(path), "exec")


def command_lines() -> list[str]:
    lines = []
    for path in PAGES:
        for block in (*blocks(path, "console"), *blocks(path, "sh")):
            for line in block.splitlines():
                stripped = line.removeprefix("$ ").partition("  #")[0].strip()
                if stripped.startswith("selftaught "):
                    lines.append(stripped)
    return sorted(set(lines))


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_parses(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    command = COMMANDS.commands[name]
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(name, arguments)


def test_command_lines_are_found() -> None:
    assert {line.split()[1] for line in command_lines()} >= {
        "run", "improve", "resume", "export", "transfer", "show", "doctor", "new-task", "check-task",
    }  # fmt: skip


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_and_options_named_in_passing_exist(path: Path) -> None:
    known = {
        option
        for command in (*COMMANDS.commands.values(), *COMMANDS.commands["store"].commands.values())
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    known |= {"--help", "--version"}
    for words in in_backticks(path):
        first, *rest = words.split()
        if first == "selftaught" and rest:
            assert rest[0] in COMMANDS.commands, words
        if first.startswith("--"):
            assert first in known, words


def test_make_targets_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = {
        target for path in PAGES for target in re.findall(r"(?:\$ |`)make ([a-z-]+)", text_of(path))
    }
    assert {"run", "test"} <= named <= targets


def test_the_command_reference_is_what_help_says() -> None:
    generator = load(DOCS / "generate_cli.py")
    assert page("reference/cli.md") == generator.page(), "`make docs` writes the page anew"


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_relative_link_resolves(path: Path) -> None:
    for target in LINK.findall(prose(path)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.is_file(), f"{name_of(path)} links to {target}"
        assert not anchor or anchor in anchors(there), f"{name_of(path)} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_path_of_this_repository_exists(path: Path) -> None:
    for words in in_backticks(path):
        if OF_REPOSITORY.fullmatch(words):
            assert (ROOT / words).exists(), f"{name_of(path)} names {words}"


def test_the_index_lists_every_page() -> None:
    index = DOCS / "index.md"
    listed = {(DOCS / target).resolve() for target in LINK.findall(text_of(index))}
    assert {path for path in DOCS.rglob("*.md") if path != index} == listed


def test_the_readme_fits_a_screen_and_names_every_module() -> None:
    text = text_of(README)
    assert len(text.splitlines()) <= 80
    (tree,) = blocks(README, "text")
    names = set(re.findall(r"[a-z_]+", " ".join(line[:37] for line in tree.splitlines())))
    source = ROOT / "src" / "selftaught"
    modules = {p.stem for p in source.glob("*.py")} | {p.parent.name for p in source.glob("*/*.py")}
    assert modules - {"__init__", "__main__"} <= names


def test_glossary_words_name_objects() -> None:
    found = re.findall(r"`(selftaught\.[\w.]+)`", page("reference/glossary.md"))
    rows = [row for row in page("reference/glossary.md").splitlines() if row.startswith("| ")]
    assert len(found) == len(rows) - 1
    for dotted in found:
        assert resolve(dotted) is not None, dotted


def resolve(dotted: str) -> object:
    module, found = "", None
    for part in dotted.split("."):
        name = f"{module}.{part}".lstrip(".")
        if found is not None and hasattr(found, part) and not isinstance(found, ModuleType):
            found = getattr(found, part)
            continue
        try:
            found, module = importlib.import_module(name), name
        except ModuleNotFoundError:
            found = getattr(found, part)
    return found


def test_the_glossary_is_in_order() -> None:
    words = re.findall(r"^\| ([^|]+) \| [^|]+ \| `", page("reference/glossary.md"), re.MULTILINE)
    assert len(words) > 40
    assert words == sorted(words)


def test_every_outcome_and_event_is_explained() -> None:
    text = page("reference/outcomes.md")
    for tag in tags(utility.Outcome) | tags(events.AnyEvent):
        assert f"| `{tag}` |" in text, tag


def test_every_field_of_a_task_file_is_explained() -> None:
    text = page("reference/task-folder.md")
    for part in (task.TaskFile, task.Limits, task.SplitSpec, task.Normalisation):
        for field in part.__struct_fields__:
            assert f"`{field}`" in text or f"`[{field}" in text, field
    assert f"| `memory_bytes` | {task.Limits().memory_bytes} |" in text
    assert f"1 to {task.MAX_INSTANCES} " in text
    assert f"multiples of {task.REPEAT_STRIDE}" in text


def test_the_limits_of_an_improver_are_those_told() -> None:
    text = page("reference/improver-api.md")
    limits = pool.IMPROVER_LIMITS
    assert limits.memory_bytes == 2**30
    for told in (
        f"{limits.time_s:g} s of CPU time",
        f"{limits.wall_cap_s:g} s on the clock",
        "1 GiB",
        f"{limits.work:,} loop",
        f"{pool.MAX_REQUESTS:,} requests",
    ):
        assert told in text.replace("\n", " "), told


def test_the_improver_api_lists_what_the_guest_offers() -> None:
    import ast

    guest = ROOT / "src" / "selftaught" / "sandbox" / "guest" / "improver_api.py"
    text = page("reference/improver-api.md")
    for node in ast.parse(text_of(guest)).body:
        if isinstance(node, ast.ClassDef) and node.name in ("Utility", "LanguageModel"):
            front = "utility" if node.name == "Utility" else "language_model"
            methods = [n.name for n in node.body if isinstance(n, ast.FunctionDef)]
            for name in [m for m in methods if not m.startswith("_")]:
                assert f"`{front}.{name}" in text, name


def test_every_public_name_is_explained() -> None:
    text = page("reference/python.md")
    for name in selftaught.__all__:
        assert re.search(rf"`st\.{name}[`(]", text), name
    from selftaught import testing

    for name in testing.__all__:
        assert f"`{name}`" in text, name


def test_every_operator_and_template_is_listed() -> None:
    text = " ".join(page("explanation/mutation-proposer.md").split())
    for change in (*FIRST_ORDER, *TEMPLATES):
        assert change.words in text, change.words


def test_the_limits_of_a_child_are_listed() -> None:
    guest = ROOT / "src" / "selftaught" / "sandbox" / "guest" / "__main__.py"
    set_by_child = set(re.findall(r"RLIMIT_[A-Z]+", text_of(guest)))
    assert set_by_child <= set(re.findall(r"RLIMIT_[A-Z]+", page("explanation/threat-model.md")))


def test_the_baselines_are_those_told() -> None:
    text = page("explanation/algorithm.md")
    for names in (running.BASELINES, transfer.REFERENCES):
        *most, last = [f"`{name}`" for name in names]
        assert f"{', '.join(most)} and {last}" in " ".join(text.split())


def test_blocks_of_instances_are_those_told() -> None:
    from selftaught import meta_utility

    text = page("explanation/algorithm.md")
    for name in ("VALIDATION", "SEALED", "TRANSFER"):
        one = msgspec.structs.asdict(getattr(meta_utility, name))
        row = f"| `{name}` | `val`, block {one['inner_block']} + r | `{one['scored_on']}`, block "
        assert f"{row}{one['outer_block']} + r |" in text
    assert "`selftaught improve` scores on `val` block 0 and reports `test` block 0" in text


@pytest.mark.parametrize("path", sorted((DOCS / "adr").glob("*.md")), ids=name_of)
def test_decisions_are_short_and_say_when(path: Path) -> None:
    text = text_of(path)
    assert text.startswith(f"# {path.name[:4]}: ")
    assert "Accepted, " in text
    if path.name != "0004-event-store.md":  # holds the measurements behind it
        assert len(text.splitlines()) <= 40
        for heading in ("## Context", "## Decision", "## Consequences"):
            assert heading in text
