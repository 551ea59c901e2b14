"""The sandbox keeps the public contract of sandboxes: as root, as another user, on each rung."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from selftaught.sandbox.candidate import SandboxedCandidate
from selftaught.sandbox.guest import wire
from selftaught.sandbox.layers import STRONG, WEAK
from selftaught.sandbox.zygote import Zygote
from selftaught.task import Limits
from selftaught.testing import Report, SandboxContract
from selftaught.testing.attacks import ATTACKS
from selftaught.utility import CandidateError, kind

NOBODY = 65534


class InLayers(SandboxContract):
    """A program is a candidate in a child of a zygote."""

    layers: tuple[str, ...]
    made: Zygote

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def zygote(cls, planted: None) -> Iterator[None]:
        cls.made = Zygote(cls.layers, ("numpy",))
        yield
        cls.made.close()

    def run_attack(self, source: str, *, time_limit_s: float, memory_bytes: int) -> Report:
        limits = Limits(time_s=time_limit_s, wall_s=1.5 * time_limit_s, memory_bytes=memory_bytes)
        candidate = SandboxedCandidate(self.made, source, limits, seed=1)
        try:
            return Report(ended="returned", value=candidate.call("attack"))
        except CandidateError as error:
            return Report(ended=kind(error.outcome), reason=error.outcome.reason)
        finally:
            candidate.close()

    def frame(self, text: str) -> bytes:
        body = b'{"ok":' + text.encode() + b"}"
        return wire.HEADER.pack(len(body), 0) + body


class TestAllLayers(InLayers):
    layers = STRONG[0]


@pytest.mark.parametrize(
    "name",
    ["read_a_secret_file", "write_a_new_file", "kill", "connect_by_tcp", "fork", "run_a_shell",
     "leave_a_grandchild_behind"],
)  # fmt: skip
def test_a_sandbox_of_limits_alone_fails_the_contract(name: str) -> None:
    class Weak(InLayers):
        layers = WEAK

    (attack,) = (attack for attack in ATTACKS if attack.name == name)
    Weak.made = Zygote(WEAK)
    try:
        with pytest.raises(AssertionError, match=f"{name} succeeded"):
            Weak().test_it_refuses(attack)
    finally:
        Weak.made.close()


def test_a_sandbox_that_never_comes_back_fails_the_contract() -> None:
    end = threading.Event()

    class Waiting(SandboxContract):
        patience_s = 0.1

        def run_attack(self, source: str, *, time_limit_s: float, memory_bytes: int) -> Report:
            end.wait()
            return Report(ended="returned")

    (attack,) = (attack for attack in ATTACKS if attack.name == "sleep")
    with pytest.raises(AssertionError, match="did not end the program"):
        Waiting().test_it_refuses(attack)
    end.set()


def test_every_attack_is_told_apart_and_says_what_it_gains() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    for attack in ATTACKS:
        assert attack.gains, attack.name
        for program in attack.programs({}):
            compile(program, attack.name, "exec")


# Multiples of it all have the hash 0, and every container of Python's then searches linearly.
HASH_MODULUS = 2**61 - 1
COLLIDING = [n * HASH_MODULUS for n in range(1, 100_001)]
BOMBS = {
    "a set": {"!": ["set", COLLIDING]},
    "a dict": {"!": ["dict", [[n, 0] for n in COLLIDING]]},
    "tuples": {"!": ["set", [{"!": ["tuple", [n, n]]} for n in COLLIDING[:60_000]]]},
    "many small sets": [{"!": ["set", COLLIDING[:2_000]]} for _ in range(60)],
    "floats": {"!": ["set", [n * 2.0**61 for n in range(1, 200_001)]]},
    "a large number": [10**4299] * 1_000,
    "an array of nothing": [{"!": ["array", "<f8", [0] * 8, 0]}] * 20_000,
    "a shape beyond memory": {"!": ["array", "<f8", [1 << 62, 1 << 62], 0]},
    "an array of objects": {"!": ["array", "|O", [1], 0]},
    "a tag of no sender": {"!": ["pickle", 0, 1]},
    "an infinite number": [1e999],
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_forged_frame_costs_the_host_little_and_is_data_at_most(name: str) -> None:
    text = json.dumps(BOMBS[name], separators=(",", ":")).replace("Infinity", "1e999")
    frame = TestAllLayers().frame(text)
    assert len(frame) < wire.MAX_JSON_BYTES, "the cap on bytes would hide the attack"
    read_end, write_end = socket.socketpair()
    with read_end, write_end:
        writer = threading.Thread(target=write_end.sendall, args=[frame])
        writer.start()
        started = time.process_time()
        try:
            message = wire.Pipe(read_end.fileno()).receive()
        except wire.WireError:
            message = {}
        seconds = time.process_time() - started
        writer.join()
    assert seconds < 5.0, f"{seconds:.1f} s of the host's time for {len(frame):,} bytes"
    assert "pickle" not in message


METADATA = {
    attack.name: "without namespaces the metadata of host paths can be seen"
    for attack in ATTACKS
    if attack.metadata_only
}


class TestWithoutNamespaces(InLayers):
    layers = STRONG[1]
    with_controls = False
    not_covered = METADATA | (
        {"thread_bomb": "the kernel does not hold root to a number of threads"}
        if os.geteuid() == 0
        else {}
    )


def _interpreter_for_everybody() -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (os.path.realpath(sys.executable), f"/usr/bin/python{version}"):
        done = subprocess.run(
            ["/bin/sh", "-c", f"exec {path} -c 'import ctypes, ssl'"],
            preexec_fn=_become_nobody,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode == 0:
            return path
    pytest.skip(f"no Python {version} that another user may run")


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


PACKAGES = ("numpy", "numpy.libs", "msgspec", "pytest", "_pytest", "pluggy", "iniconfig", "packaging",
            "pygments", "py.py", "pytest_timeout.py")  # fmt: skip


@pytest.fixture(scope="session")
def folder_for_everybody() -> Iterator[Path]:
    """The package, its libraries and this file, where every user may read them."""
    # Not pytest's own temporary folder: only its owner may enter that.
    folder = Path(tempfile.mkdtemp(prefix="contract-"))
    try:
        _copy_for_everybody(folder)
        yield folder
    finally:
        shutil.rmtree(folder)


CERTAIN_CONTROLS = sum(1 for attack in ATTACKS if not attack.needs)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("chosen", "at_least"),
    [
        ("TestAllLayers and test_it_refuses", len(ATTACKS)),
        ("TestAllLayers and test_it_succeeds", CERTAIN_CONTROLS),
        ("TestWithoutNamespaces and test_it_refuses", len(ATTACKS) - len(METADATA)),
    ],
)
def test_the_contract_is_kept_for_an_ordinary_user(
    folder_for_everybody: Path, chosen: str, at_least: int
) -> None:
    """The same once more, by a process with the rights of nobody."""
    folder = folder_for_everybody
    done = subprocess.run(
        [_interpreter_for_everybody(), "-m", "pytest", "-qx", "-p", "no:cacheprovider",
         "-W", "error", "-o", "markers=slow", "-k", chosen, str(folder / "test_sandbox_contract.py")],
        cwd=folder,
        env={"PATH": os.defpath, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=_become_nobody,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout[-1000:]
    assert int(passed[1]) >= at_least


def _copy_for_everybody(folder: Path) -> None:
    root = Path(__file__).parents[1]
    installed = Path(pytest.__file__).parents[1]
    shutil.copytree(root / "src" / "selftaught", folder / "selftaught")
    shutil.copy(__file__, folder)
    for name in PACKAGES:
        source = installed / name
        if source.is_dir():
            skipped = shutil.ignore_patterns("tests", "*.pyi")
            shutil.copytree(source, folder / name, ignore=skipped)
        elif source.exists():
            shutil.copy(source, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
