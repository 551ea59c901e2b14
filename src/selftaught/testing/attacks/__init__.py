"""What hostile programs try, as data: each attack with a judge of its success.

`selftaught.testing.SandboxContract` runs them. They are grouped by what they go for.
"""

from selftaught.testing.attacks import files, hidden, kernel, network, processes, resources, results
from selftaught.testing.attacks.attack import Attack, Report
from selftaught.testing.attacks.attacked_host import AttackedHost

GROUPS: dict[str, tuple[Attack, ...]] = {
    "files": files.ATTACKS,
    "processes": processes.ATTACKS,
    "network": network.ATTACKS,
    "kernel": kernel.ATTACKS,
    "resources": resources.ATTACKS,
    "results": results.ATTACKS,
    "hidden": hidden.ATTACKS,
}
ATTACKS = tuple(attack for group in GROUPS.values() for attack in group)

__all__ = ["ATTACKS", "GROUPS", "Attack", "AttackedHost", "Report"]
