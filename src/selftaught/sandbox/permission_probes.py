"""What the permissions of tasks open, tried for real: that they open no more than they name."""

from selftaught.errors import UsageError
from selftaught.sandbox.candidate import SandboxedCandidate
from selftaught.sandbox.compiled_candidate import CompiledCandidate
from selftaught.sandbox.grant import Grant
from selftaught.sandbox.layers import Probe
from selftaught.sandbox.toolchain import LANGUAGES, find_toolchain
from selftaught.sandbox.zygote import Zygote
from selftaught.task import Limits
from selftaught.utility import CandidateError

_TMP_BYTES = 1 << 20
_LIMITS = Limits(time_s=2.0, memory_bytes=64 << 20)

_LEAVES = "def attempt():\n    open('/tmp/left', 'w').write('x')\n    return None\n"
_FINDS = "def attempt():\n    return open('/tmp/left').read()\n"
_FILLS = f"def attempt():\n    return open('/tmp/x', 'wb').write(b'x' * {2 * _TMP_BYTES})\n"
_SHELL = """
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    execl("/bin/sh", "sh", "-c", "echo it ran", (char *) 0);
    fprintf(stderr, "%s", strerror(errno));
    return 1;
}
"""
_FORKS = """
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    pid_t child = fork();
    if (child == 0) return 0;
    if (child > 0) { puts("it forked"); return 0; }
    fprintf(stderr, "%s", strerror(errno));
    return 1;
}
"""


def probe_permissions(layers: tuple[str, ...]) -> list[Probe]:
    """Try to go beyond the private folder, and beyond a permitted compiler where one is found.

    Returns:
        No probe of what cannot be permitted under these layers.
    """
    probes = []
    if "namespaces" in layers:
        zygote = Zygote(layers, grant=Grant(tmp_bytes=_TMP_BYTES))
        try:
            probes.append(_called(zygote, "fill more than the private folder holds", _FILLS))
            _called(zygote, "", _LEAVES)
            probes.append(_called(zygote, "find what another left in the private folder", _FINDS))
        finally:
            zygote.close()
    if {"namespaces", "landlock", "seccomp"} <= set(layers) and "c" in found_toolchains():
        zygote = Zygote(layers, grant=Grant(toolchain=find_toolchain("c")))
        try:
            probes.append(_ran(zygote, "run a shell from a compiled program", _SHELL))
            probes.append(_ran(zygote, "start a process from a compiled program", _FORKS))
        finally:
            zygote.close()
    return probes


def found_toolchains() -> dict[str, str]:
    """The languages that candidates can be compiled from here, with the compiler's version."""
    found: dict[str, str] = {}
    for language in LANGUAGES:
        try:
            found[language] = find_toolchain(language).version
        except UsageError:
            continue
    return found


def _called(zygote: Zygote, name: str, source: str) -> Probe:
    candidate = SandboxedCandidate(zygote, source, _LIMITS, seed=0)
    try:
        return Probe(
            name=name, refused=False, evidence=f"it succeeded: {candidate.call('attempt')!r:.60}"
        )
    except CandidateError as error:
        return Probe(name=name, refused=True, evidence=error.outcome.reason[:100])
    finally:
        candidate.close()


def _ran(zygote: Zygote, name: str, source: str) -> Probe:
    candidate = CompiledCandidate(zygote, source, _LIMITS)
    try:
        return Probe(name=name, refused=False, evidence=f"it succeeded: {candidate.run('')!r:.60}")
    except CandidateError as error:
        return Probe(name=name, refused=True, evidence=error.outcome.reason[:100])
    finally:
        candidate.close()
