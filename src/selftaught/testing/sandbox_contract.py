"""What every sandbox must refuse, as a pytest class that a sandbox's own tests subclass."""

import dataclasses
import functools
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from selftaught.testing.attacks import ATTACKS, GROUPS, Attack, AttackedHost, Report
from selftaught.testing.attacks.attacked_host import planted_secrets
from selftaught.testing.attacks.plain_process import run_in_plain_process

# An attack that is to overrun has overrun after this, where nothing stops it.
_CONTROL_PATIENCE_S = 0.2
_CONTROL_LIMIT_S = 20.0


class SandboxContract:
    """Subclass it, name the subclass Test..., and give it `run_attack`.

    Each attack is one test, which passes where the attack fails. Each has a second test, the
    control: the same program without a sandbox, which must succeed. Without it, an attack that
    a new version of Python broke would pass for a refusal for ever.

    Attributes:
        patience_s: seconds on the clock after which a call counts as one that never ended. Above
            the longest that the sandbox takes to stop a program with a limit of half a second.
        groups: which groups of attacks to run, from `selftaught.testing.attacks.GROUPS`.
        not_covered: names of attacks that the sandbox does not claim to stop, each with the
            reason, which is shown.
        with_controls: whether to run the controls; once is enough for several sandboxes.
    """

    patience_s = 20.0
    groups: tuple[str, ...] = tuple(GROUPS)
    not_covered: Mapping[str, str] = {}
    with_controls = True

    def run_attack(self, source: str, *, time_limit_s: float, memory_bytes: int) -> Report:
        """Run `attack()` of a program in the sandbox and report how that ended.

        Args:
            source: the program text; it defines `attack`, a function without arguments.
            time_limit_s: after this the sandbox must end it, in whatever sense of time it has.
            memory_bytes: what it may take beyond an idle interpreter.

        Returns:
            A report that ended as `returned` only where the sandbox takes the value for the
            program's result. Whatever a program does is a report and no exception.
        """
        raise NotImplementedError

    def frame(self, text: str) -> bytes:
        """Return the bytes that the sandbox's channel carries for an answer with this JSON text.

        They are what the most knowing attacker would write himself, so nothing is checked here.
        Override it for a channel of frames; the default is a length in eight bytes, then the text.
        """
        body = text.encode()
        return struct.pack(">Q", len(body)) + body

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def planted(cls) -> Iterator[None]:
        """A key in the environment and an inheritable descriptor, for attacks to look for.

        A fixture that starts a sandbox for several calls asks for this one, so as to come later.
        """
        with planted_secrets():
            yield

    @pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
    def test_it_refuses(self, attack: Attack) -> None:
        """The attack fails in the sandbox, as the host sees it."""
        self._skip_unless_claimed(attack)
        frame = zlib.compress(self.frame(attack.frame_text))
        facts = attack.facts | {"frame": frame}
        victim = attack.on_a_process
        with AttackedHost(facts, self.patience_s, with_victim=victim) as host:
            for program in attack.programs(host.facts):
                report = self._run(program, attack)
            assert not attack.succeeds(report, host), (
                f"{attack.name} succeeded. Gained: {attack.gains}. Report: {report!r:.500}"
            )

    @pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
    def test_it_succeeds_without_a_sandbox(self, attack: Attack) -> None:
        """The control: the attack works where nothing stops it."""
        self._skip_unless_claimed(attack)
        if not self.with_controls:
            pytest.skip("the controls run elsewhere")
        succeeded, report = _without_sandbox(attack.name)
        if not succeeded and attack.needs:
            pytest.skip(f"needs {attack.needs}; here: {report.ended} {report.reason}"[:200])
        assert succeeded, f"the attack itself is broken: {report!r:.500}"

    def _skip_unless_claimed(self, attack: Attack) -> None:
        if any(attack in GROUPS[group] for group in GROUPS if group not in self.groups):
            pytest.skip("its group is not run")
        if attack.name in self.not_covered:
            pytest.skip(self.not_covered[attack.name])

    def _run(self, program: str, attack: Attack) -> Report:
        """Run a program in the sandbox, but wait no longer than patience allows."""
        done: list[Report] = []

        def run() -> None:
            done.append(
                self.run_attack(
                    program, time_limit_s=attack.time_limit_s, memory_bytes=attack.memory_bytes
                )
            )

        started = time.monotonic()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(self.patience_s + attack.time_limit_s)
        seconds = time.monotonic() - started
        assert not thread.is_alive(), f"the sandbox did not end the program in {seconds:.0f} s"
        assert done, "run_attack raised an exception instead of returning a report"
        return dataclasses.replace(done[0], seconds=seconds)


@functools.cache
def _without_sandbox(name: str) -> tuple[bool, Report]:
    """Run an attack in a plain process; return whether it succeeded, and its last report."""
    (attack,) = (attack for attack in ATTACKS if attack.name == name)
    frame = zlib.compress(SandboxContract().frame(attack.frame_text))
    facts: dict[str, Any] = attack.facts | attack.control_facts | {"frame": frame}
    victim = attack.on_a_process
    with AttackedHost(facts, _CONTROL_PATIENCE_S, with_victim=victim) as host:

        def judge(reports: list[Report]) -> tuple[bool, Report]:
            return attack.succeeds(reports[-1], host), reports[-1]

        limit_s = _CONTROL_LIMIT_S if not attack.lasts else 2 * _CONTROL_PATIENCE_S
        succeeded, report = run_in_plain_process(
            attack.programs(host.facts), limit_s=limit_s, judge=judge
        )
        return bool(succeeded), report
