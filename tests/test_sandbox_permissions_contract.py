"""What a task permits opens no more than it names: as root, as another user, on each rung."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import test_sandbox_contract as contract

from selftaught.errors import SelftaughtError
from selftaught.permissions import Permissions
from selftaught.sandbox.candidate import SandboxedCandidate
from selftaught.sandbox.compiled_candidate import CompiledCandidate
from selftaught.sandbox.grant import Grant, grant_for
from selftaught.sandbox.layers import STRONG
from selftaught.sandbox.zygote import Zygote
from selftaught.solution import Solution
from selftaught.task import Limits, Normalisation, Task, TaskFile
from selftaught.testing import PermissionContract, Report
from selftaught.testing.attacks.permitted import PERMITTED_ATTACKS, PermittedAttack
from selftaught.utility import CandidateError, kind


def task_that_permits(permits: dict[str, Any], memory_bytes: int = 256 << 20) -> Task:
    file = TaskFile(
        summary="",
        normalisation=Normalisation(best=1.0),
        limits=Limits(memory_bytes=memory_bytes),
        permissions=msgspec.convert(permits, Permissions),
    )
    return Task(name="permitting", folder="/", file=file, initial=Solution("x"), utility_text="",
                digest="")  # fmt: skip


class InLayers(PermissionContract):
    """Programs are candidates of a task with these permissions, in children of its zygote."""

    layers: tuple[str, ...]
    zygotes: dict[Grant, Zygote]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def zygote(cls) -> Iterator[None]:
        cls.zygotes = {}
        yield
        for zygote in cls.zygotes.values():
            zygote.close()

    def run_programs(
        self, attack: PermittedAttack, programs: list[str], permits: dict[str, Any]
    ) -> list[Report]:
        try:
            grant = grant_for(task_that_permits(permits), self.layers, allow_network=attack.agreed)
        except SelftaughtError as error:
            return [Report(ended="not started", reason=str(error))]
        if grant not in self.zygotes:
            self.zygotes[grant] = Zygote(self.layers, grant=grant)
        limits = Limits(time_s=attack.time_limit_s, wall_s=1.5 * attack.time_limit_s,
                        memory_bytes=attack.memory_bytes, compile_s=2.0)  # fmt: skip
        reports, running = [], []
        for i, program in enumerate(programs):
            candidate: SandboxedCandidate | CompiledCandidate
            if grant.toolchain is None:
                candidate = SandboxedCandidate(self.zygotes[grant], program, limits, seed=1)
            else:
                candidate = CompiledCandidate(self.zygotes[grant], program, limits)
            reports.append(_report(candidate))
            if attack.beside and i == 0:
                running.append(candidate)
            else:
                candidate.close()
        for candidate in running:
            candidate.close()
        return reports


def _report(candidate: SandboxedCandidate | CompiledCandidate) -> Report:
    try:
        if isinstance(candidate, CompiledCandidate):
            value: Any = candidate.run("")
        else:
            value = candidate.call("attack")
    except CandidateError as error:
        return Report(ended=kind(error.outcome), reason=error.outcome.reason)
    return Report(ended="returned", value=value)


class TestAllLayers(InLayers):
    layers = STRONG[0]


class TestWithoutNamespaces(InLayers):
    layers = STRONG[1]
    with_controls = False


class TestWithoutLandlock(InLayers):
    layers = STRONG[2]
    with_controls = False


def test_every_attack_names_what_it_was_permitted() -> None:
    assert len({attack.name for attack in PERMITTED_ATTACKS}) == len(PERMITTED_ATTACKS)
    for attack in PERMITTED_ATTACKS:
        assert attack.gains, attack.name
        assert attack.permits, attack.name


@pytest.fixture(scope="module")
def folder_for_everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from contract.folder_for_everybody.__wrapped__()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("chosen", ["TestAllLayers", "TestWithoutNamespaces"])
def test_the_contract_is_kept_for_an_ordinary_user(folder_for_everybody: Path, chosen: str) -> None:
    """The same once more, by a process with the rights of nobody."""
    folder = folder_for_everybody
    shutil.copy(__file__, folder)
    done = subprocess.run(
        [contract._interpreter_for_everybody(), "-m", "pytest", "-qx", "-p", "no:cacheprovider",
         "-W", "error", "-o", "markers=slow", "-k", chosen, str(folder / Path(__file__).name)],
        cwd=folder,
        env={"PATH": os.defpath, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=contract._become_nobody,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout[-1000:]
    assert int(passed[1]) >= len(PERMITTED_ATTACKS), sys.platform
