"""What a sandbox must refuse where a task permits something, as a pytest class to subclass."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from selftaught.testing.attacks import AttackedHost, Report
from selftaught.testing.attacks.permitted import PERMITTED_ATTACKS, PermittedAttack
from selftaught.testing.attacks.plain_process import run_in_plain_process

_CONTROL_PATIENCE_S = 0.2
_CONTROL_LIMIT_S = 20.0


class PermissionContract:
    """Subclass it, name the subclass Test..., and give it `run_programs`.

    Each attack is one test, which passes where the attack fails although its task permits
    something; each has a control, the same without a sandbox, which must succeed.

    Attributes:
        patience_s: seconds after which a call counts as one that never ended.
        not_covered: names of attacks that are not tried, each with the reason, which is shown.
        with_controls: whether to run the controls; once is enough for several sandboxes.
    """

    patience_s = 30.0
    not_covered: Mapping[str, str] = {}
    with_controls = True

    def run_programs(
        self, attack: PermittedAttack, programs: list[str], permits: dict[str, Any]
    ) -> list[Report]:
        """Run programs, one after another and each as a candidate of its own.

        Args:
            attack: whose programs; `time_limit_s`, `memory_bytes`, `language` and `agreed` hold.
            programs: the texts. Where the attack has one `beside`, it is the first, and must still
                be there while the others run.
            permits: as in `[permissions]`.

        Returns:
            A report of each. A sandbox that refuses to start reports that, too.
        """
        raise NotImplementedError

    @pytest.mark.parametrize("attack", PERMITTED_ATTACKS, ids=lambda attack: attack.name)
    def test_it_refuses(self, attack: PermittedAttack) -> None:
        """The attack fails in the sandbox, as the host sees it."""
        self._skip_unless_claimed(attack)
        with AttackedHost(dict(attack.facts), self.patience_s) as host:
            permits = _prepare(attack, host, tmp="/tmp")
            started = time.monotonic()
            reports = self.run_programs(attack, attack.programs(host.facts), permits)
            last = _timed(reports[-1], time.monotonic() - started)
            assert not attack.succeeds(last, host), (
                f"{attack.name} succeeded. Gained: {attack.gains}. Report: {last!r:.500}"
            )

    @pytest.mark.parametrize("attack", PERMITTED_ATTACKS, ids=lambda attack: attack.name)
    def test_it_succeeds_without_a_sandbox(self, attack: PermittedAttack) -> None:
        """The control: the attack works where nothing stops it."""
        self._skip_unless_claimed(attack)
        if not self.with_controls:
            pytest.skip("the controls run elsewhere")
        facts = attack.facts | attack.control_facts
        with AttackedHost(facts, _CONTROL_PATIENCE_S) as host:
            _prepare(attack, host, tmp=str(host.folder))
            programs = attack.programs(host.facts)
            limit_s = _CONTROL_LIMIT_S if not attack.lasts else 2 * _CONTROL_PATIENCE_S

            def judge(reports: list[Report]) -> tuple[bool, Report]:
                return attack.succeeds(reports[-1], host), reports[-1]

            if attack.language == "c":
                succeeded, report = judge([_run_plain_c(programs[0], limit_s)])
            else:
                succeeded, report = run_in_plain_process(programs, limit_s=limit_s, judge=judge)
        assert succeeded, f"the attack itself is broken: {report!r:.500}"

    def _skip_unless_claimed(self, attack: PermittedAttack) -> None:
        if attack.name in self.not_covered:
            pytest.skip(self.not_covered[attack.name])
        if attack.language == "c" and shutil.which("gcc") is None:
            pytest.skip("needs gcc")


def _prepare(attack: PermittedAttack, host: AttackedHost, tmp: str) -> dict[str, Any]:
    """Make what may be read, tell the program of it, and return the permissions."""
    permitted = host.folder / "permitted"
    permitted.mkdir()
    permitted.chmod(0o777)
    (permitted / "data.txt").write_text("data")
    (permitted / "data.txt").chmod(0o666)
    (permitted / "out").symlink_to(host.folder / "secret.txt")
    host.facts |= {"permitted": str(permitted), "tmp": tmp}
    host.facts["compiler"] = os.path.realpath(shutil.which("gcc") or "/usr/bin/gcc")
    permits = dict(attack.permits)
    if "read" in permits:
        permits["read"] = [path.format(permitted=permitted) for path in permits["read"]]
    return permits


def _timed(report: Report, seconds: float) -> Report:
    return Report(ended=report.ended, value=report.value, reason=report.reason, seconds=seconds)


def _run_plain_c(source: str, limit_s: float) -> Report:
    """Compile and run a program as a careless host does."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file, program = Path(folder, "program.c"), Path(folder, "program")
        file.write_text(source)
        try:
            for command in (["gcc", "-O2", "-o", str(program), str(file)], [str(program)]):
                # Files and no pipes: what it leaves behind may keep those open.
                with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
                    with subprocess.Popen(
                        command, stdout=out, stderr=said, start_new_session=True
                    ) as process:
                        try:
                            code = process.wait(timeout=limit_s - (time.monotonic() - started))
                        except BaseException:
                            # With the compiler proper, which would fill the machine's memory.
                            os.killpg(process.pid, signal.SIGKILL)
                            raise
                    out.seek(0)
                    said.seek(0)
                    printed, reason = out.read().decode(), said.read().decode()
                if code:
                    return Report(ended="died", reason=reason)
        except subprocess.TimeoutExpired:
            return Report(ended="overdue", seconds=time.monotonic() - started)
    seconds = time.monotonic() - started
    return Report(ended="returned", value=printed, reason=reason, seconds=seconds)
