"""What `[permissions]` may say, and what is refused with a sentence before anything runs."""

import os
from pathlib import Path

import msgspec
import pytest
from conftest import write_toy

from selftaught import permissions
from selftaught.errors import SandboxUnavailable, TaskError, UsageError
from selftaught.runs.config import RunConfig, check_config
from selftaught.sandbox import grant, toolchain
from selftaught.sandbox.grant import NOTHING, check_device, grant_for
from selftaught.sandbox.layers import STRONG, WEAK
from selftaught.sandbox.toolchain import find_toolchain
from selftaught.task import Task

KNAPSACK = str(Path(__file__).parent / "tasks" / "knapsack_c")


def task_with(folder: Path, *lines: str) -> Task:
    write_toy(folder)
    text = (folder / "task.toml").read_text()
    (folder / "task.toml").write_text("\n".join([text, "[permissions]", *lines, ""]))
    return Task.load(str(folder))


def test_nothing_is_permitted_by_default(toy: Task) -> None:
    assert toy.file.permissions == permissions.Permissions()
    assert toy.file.permissions.sentences() == ()
    assert grant_for(toy, STRONG[0], allow_network=False) == NOTHING
    assert grant_for(toy, WEAK, allow_network=False) == NOTHING


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("write = ['/tmp']", "has no 'write'; it has: read, tmp_bytes, compiler, devices, network"),
        ("tmp_bytes = '1M'", "Expected `int`"),
        ("tmp_bytes = 100", "at least 4096"),
        ("tmp_bytes = -1", "at least 4096"),
        ("tmp_bytes = 536870912", "must be less than limits.memory_bytes"),
        ("compiler = 'fortran'", "Invalid enum value 'fortran'"),
        ("compiler = 'c'", "holds no solution.c"),
        ("read = ['/']", "holds home folders or most of the machine"),
        ("read = ['']", "holds home folders"),
        ("read = ['/usr']", "holds home folders or most of the machine"),
        ("read = ['/root']", "holds home folders"),
        ("read = ['~root/../../root']", "missing"),
        ("read = ['/proc/self']", "secrets"),
        ("read = ['/usr/../etc/shadow']", "secrets"),
        ("read = ['/dev/null']", "secrets"),
        ("read = ['.']", "holds the task folder"),
        ("read = ['..']", "holds the task folder"),
        ("read = ['utility.py']", "must not see"),
        ("read = ['task.toml']", "must not see"),
        ("read = ['instances.json']", "must not see"),
        ("read = ['data']", "must not see"),
        ("devices = ['/dev/sda']", "only GPU nodes"),
        ("devices = ['/dev/nvidia0/../mem']", "only GPU nodes"),
        ("devices = ['/dev/dri/card0']", "only GPU nodes"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path: Path, line: str, told: str) -> None:
    folder = tmp_path / "toy"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "instances-1.json").write_text("[]")
    if told == "missing":
        task = task_with(folder, "read = ['no/such/file']")
        with pytest.raises(UsageError, match="does not exist here"):
            grant_for(task, STRONG[0], allow_network=False)
        return
    with pytest.raises(TaskError) as refused:
        task_with(folder, line)
    assert told in str(refused.value)
    assert "task.toml" in str(refused.value) or "holds no" in str(refused.value)


def test_hidden_files_of_a_home_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "somebody"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for path in (home, home.parent, home / ".ssh", home / ".config" / "keys"):
        with pytest.raises(TaskError, match=r"permissions\.read may not name"):
            task_with(tmp_path / "toy", f"read = ['{path}']")
    assert task_with(tmp_path / "toy", f"read = ['{home}/data']")


def test_a_link_to_what_is_refused_is_refused(tmp_path: Path) -> None:
    folder = write_toy(tmp_path / "toy")
    (folder / "innocent").symlink_to("utility.py")
    (folder / "outside").symlink_to("/etc")
    for name in ("innocent", "outside"):
        with pytest.raises(TaskError, match="may not name"):
            task_with(folder, f"read = ['{name}']")


def test_paths_are_relative_to_the_task_folder(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    (folder / "words").mkdir(parents=True)
    task = task_with(folder, "read = ['words', 'words']")
    given = grant_for(task, STRONG[0], allow_network=False)
    assert given.read == (os.path.realpath(folder / "words"),)
    assert task.file.permissions.sentences() == ("reading words", "reading words")


def test_read_paths_may_not_hide_beneath_the_private_folder(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="beneath /tmp"):
        task_with(tmp_path / "toy", "read = ['/tmp/data']", "tmp_bytes = 8192")


def test_permissions_change_the_digest(tmp_path: Path) -> None:
    plain = Task.load(str(write_toy(tmp_path / "toy")))
    assert task_with(tmp_path / "toy", "tmp_bytes = 8192").digest != plain.digest


@pytest.mark.parametrize("layers", [STRONG[1], WEAK])
def test_a_private_folder_needs_namespaces(tmp_path: Path, layers: tuple[str, ...]) -> None:
    task = task_with(tmp_path / "toy", "tmp_bytes = 8192")
    with pytest.raises(SandboxUnavailable, match="it needs namespaces"):
        grant_for(task, layers, allow_network=False)


@pytest.mark.parametrize("layers", [STRONG[1], STRONG[2], WEAK])
def test_a_compiler_needs_every_layer(layers: tuple[str, ...]) -> None:
    with pytest.raises(SandboxUnavailable, match="namespaces, Landlock and seccomp"):
        grant_for(Task.load(KNAPSACK), layers, allow_network=False)


def test_a_device_must_be_one(tmp_path: Path) -> None:
    file = tmp_path / "nvidia0"
    file.write_text("")
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    for path in (file, link):
        with pytest.raises(UsageError, match="no character device"):
            check_device(str(path))
    with pytest.raises(UsageError, match="cannot be given"):
        check_device("/dev/nvidia-none-such")
    check_device("/dev/null")


def test_the_operator_must_agree_to_the_network(tmp_path: Path) -> None:
    task = task_with(tmp_path / "toy", "network = true")
    with pytest.raises(UsageError, match="--allow-network"):
        grant_for(task, STRONG[0], allow_network=False)
    given = grant_for(task, STRONG[0], allow_network=True)
    assert given.network
    config = RunConfig(command="improve", tasks=(task.reference,))
    with pytest.raises(UsageError, match="--allow-network"):
        check_config(config)
    check_config(msgspec.structs.replace(config, allow_network=True))


def test_agreeing_gives_no_network_to_a_task_that_does_not_ask(toy: Task) -> None:
    assert grant_for(toy, STRONG[0], allow_network=True) == NOTHING


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    find_toolchain.cache_clear()
    try:
        for language, needed in (("c", "gcc"), ("c++", r"g\+\+"), ("rust", "rustc"), ("go", "go")):
            with pytest.raises(UsageError, match=f"No compiler for .*Install {needed}"):
                find_toolchain(language)  # type: ignore[arg-type]
    finally:
        find_toolchain.cache_clear()


def test_a_compiler_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "go").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="No compiler for go can be used here"):
        find_toolchain.__wrapped__("go")


def test_how_go_is_called_follows_from_what_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Go was not there to try: this is what would be mounted and run."""
    root = tmp_path / "go-root"
    root.mkdir()
    (tmp_path / "go").write_text(
        f'#!/bin/sh\ncase "$1" in env) echo {root};; version) echo "go version go1.30";; esac\n'
    )
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = toolchain.find_toolchain.__wrapped__("go")
    assert found.version == "go version go1.30"
    assert found.programs == (str(root),)
    assert found.command[0] == f"{root}/bin/go"
    assert dict(found.environment)["CGO_ENABLED"] == "0"


def test_the_mutation_proposer_is_not_asked_for_another_language() -> None:
    config = RunConfig(command="improve", tasks=(KNAPSACK,))
    with pytest.raises(UsageError, match="edits Python only"):
        check_config(config)
    check_config(msgspec.structs.replace(config, model="openai/some-model"))


def test_a_program_in_another_language_is_not_looked_at_as_python() -> None:
    task = Task.load(KNAPSACK)
    assert (task.language, task.initial.language) == ("c", "c")
    rewritten = task.initial.rewritten("int main(void) { return 0; }")
    assert rewritten.language == "c"
    assert rewritten.hash != task.initial.hash


def test_a_grant_is_a_key() -> None:
    """Zygotes are kept one per set of modules and permissions."""
    first, second = grant.Grant(tmp_bytes=8192), grant.Grant(tmp_bytes=8192)
    assert {first: 1}[second] == 1
    assert grant.Grant(tmp_bytes=4096) != first
