"""The layers of the sandbox: each set holds, and without them the same attempts succeed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from selftaught.errors import SandboxUnavailable
from selftaught.sandbox import layers
from selftaught.sandbox.guest import wire
from selftaught.sandbox.layout import layout_for
from selftaught.sandbox.zygote import CpuLimitReached, Zygote

ALL_SETS = layers.STRONG


def zygote_under(chosen: tuple[str, ...], modules: tuple[str, ...] = ()) -> Zygote:
    """A zygote, or a skip that says what this machine lacks (a container, an old kernel)."""
    try:
        return Zygote(chosen, modules)
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def call(zygote: Zygote, *lines: str, cpu_s: float = 5.0) -> dict[str, object]:
    """Run lines as a function in a fresh child and return its reply."""
    source = "def f():\n" + "".join(f"    {line}\n" for line in lines)
    child = zygote.fork(256 * 1024**2)
    limits = {"cpu_limit_s": cpu_s, "wall_limit_s": 30.0, "on_attempt": lambda attempt: None}
    try:
        child.send({"op": "load", "source": source, "work": 0, "seed": 0})
        child.receive(**limits)  # type: ignore[arg-type]
        child.send({"op": "call", "entry_point": "f", "args": [], "seed": 0})
        return child.receive(**limits)  # type: ignore[arg-type]
    finally:
        child.close()


@pytest.mark.parametrize("chosen", ALL_SETS, ids="+".join)
def test_every_probe_is_refused_under_every_set_of_layers(chosen: tuple[str, ...]) -> None:
    zygote_under(chosen).close()
    for probe in layers.probe(chosen):
        assert probe.refused, f"{probe.name}: {probe.evidence}"


def test_the_same_probes_succeed_without_layers() -> None:
    """The control: were the probes broken, they would be refused here too."""
    succeeded = {probe.name for probe in layers.probe(layers.WEAK) if not probe.refused}
    assert succeeded >= {
        "read the password file",
        "write a file",
        "open a unix socket",
        "start a process",
        "signal a process",
    }


@pytest.mark.parametrize("chosen", [*ALL_SETS, layers.WEAK], ids="+".join)
def test_a_child_holds_its_own_pipe_and_no_other_descriptor(chosen: tuple[str, ...]) -> None:
    zygote = zygote_under(chosen)
    try:
        reply = call(
            zygote,
            "import os",
            "held = []",
            "for n in range(256):",
            "    try: os.fstat(n); held.append(n)",
            "    except OSError: pass",
            "return held",
        )
    finally:
        zygote.close()
    assert reply["ok"] == [0, 1, 2, 3]


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone has an id to give up")
def test_a_child_of_root_is_nobody() -> None:
    zygote = zygote_under(layers.STRONG[0])
    try:
        child = zygote.fork(256 * 1024**2)
        pid = [p for p in Path("/proc").glob("[0-9]*") if _is_child_of(p, zygote)]
        uids = {line.split()[1] for p in pid for line in _status(p) if line.startswith("Uid")}
        child.close()
    finally:
        zygote.close()
    assert "65534" in uids


def _is_child_of(entry: Path, zygote: Zygote) -> bool:
    try:
        return str(layout_guest()) in (entry / "cmdline").read_text()
    except OSError:
        return False


def layout_guest() -> Path:
    from selftaught.sandbox.layout import GUEST

    return GUEST


def _status(entry: Path) -> list[str]:
    try:
        return (entry / "status").read_text().splitlines()
    except OSError:
        return []


def test_nothing_can_be_turned_back_on_from_inside() -> None:
    zygote = zygote_under(layers.STRONG[0])
    try:
        for line in (
            "ctypes.CDLL(None).unshare(0x10000000)",
            "ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None)",
            "ctypes.CDLL(None).ptrace(16, 1, 0, 0)",
            "ctypes.CDLL(None).syscall(425, 1, 0)",  # io_uring_setup
            "ctypes.CDLL(None).syscall(319, b'x', 0)",  # memfd_create
            "ctypes.CDLL(None).syscall(298, 0, 0, 0, 0, 0)",  # perf_event_open
            "ctypes.CDLL(None).syscall(435, 0, 0)",  # clone3
            "ctypes.CDLL(None).syscall(57)",  # fork
            "ctypes.CDLL(None).syscall(0x40000000 + 57)",  # fork, through the x32 interface
            "ctypes.CDLL(None).setns(0, 0)",
            "ctypes.CDLL(None).chroot(b'/')",
        ):
            reply = call(zygote, "import ctypes", f"return {line}")
            assert reply.get("ok") == -1, (line, reply)
    finally:
        zygote.close()


def test_a_limit_by_cpu_time_is_measured_from_outside() -> None:
    """A program that lies about time is stopped all the same."""
    zygote = zygote_under(layers.STRONG[0])
    try:
        with pytest.raises(CpuLimitReached):
            call(zygote, "import time", "time.process_time = lambda: 0.0", "while True: pass",
                 cpu_s=0.2)  # fmt: skip
        reply = call(zygote, "import time", "time.sleep(0.6)", "return 1", cpu_s=0.2)
        assert reply["ok"] == 1, "sleeping is not computing"
    finally:
        zygote.close()


def test_a_zygote_that_was_killed_is_told_as_such() -> None:
    zygote = zygote_under(layers.STRONG[0])
    zygote._process.kill()
    zygote._process.wait()
    with pytest.raises(SandboxUnavailable, match="zygote ended"):
        zygote.fork(2**28)
    zygote.close()


def test_a_machine_without_layers_is_refused_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLayers:
        def __init__(self, chosen: tuple[str, ...]) -> None:
            tried.append(chosen)
            if chosen != layers.WEAK:
                raise SandboxUnavailable("The sandbox could not start: no such layer.")

        def close(self) -> None:
            pass

    tried: list[tuple[str, ...]] = []
    monkeypatch.setattr(layers, "Zygote", NoLayers)
    monkeypatch.setattr(layers, "_refused", {})
    layers.choose_layers.cache_clear()
    try:
        with pytest.raises(SandboxUnavailable, match="--allow-weak-sandbox"):
            layers.choose_layers()
        assert layers.choose_layers(allow_weak=True) == layers.WEAK
        assert tried == [*layers.STRONG, layers.WEAK], "what did not work is not tried again"
        monkeypatch.setattr(sys, "platform", "darwin")
        layers.choose_layers.cache_clear()
        with pytest.raises(SandboxUnavailable, match="Linux"):
            layers.choose_layers(allow_weak=True)
    finally:
        layers.choose_layers.cache_clear()


def test_only_the_packages_asked_for_can_be_read() -> None:
    zygote = zygote_under(layers.STRONG[0], ("numpy",))
    try:
        reply = call(zygote, "import numpy", "return float(numpy.arange(4).sum())")
        assert reply["ok"] == 6.0
        for module in ("msgspec", "rich", "selftaught"):
            assert "ModuleNotFoundError" in str(call(zygote, f"import {module}"))
    finally:
        zygote.close()
    assert layout_for(()).module_paths == ()


def test_an_end_of_the_pipe_is_told_apart_from_a_refusal() -> None:
    zygote = zygote_under(layers.STRONG[0])
    try:
        with pytest.raises(wire.EndOfFrames):
            call(zygote, "import os", "os._exit(3)")
    finally:
        zygote.close()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs util-linux's unshare")
def test_a_machine_without_user_namespaces_takes_the_next_set(tmp_path: Path) -> None:
    """As in a container that forbids them: told at once, and still contained."""
    script = (
        "echo 0 > /proc/sys/user/max_user_namespaces && "
        f"exec {sys.executable} -m selftaught doctor --json"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if not done.stdout:
        pytest.skip(f"no namespace to try it in: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    assert report["layers"] == ["parent_death", "landlock", "seccomp"]
    assert report["safe"] is True
    assert done.returncode == 0
