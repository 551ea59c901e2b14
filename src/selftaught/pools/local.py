"""The pool of this machine: one evaluator and one slot per core, improvers from zygotes."""

import os
from collections.abc import Callable

from selftaught.pool import Attempt
from selftaught.pools import early
from selftaught.pools.gate import HERE, Gate
from selftaught.pools.gated import GatedPool
from selftaught.pools.machine import Machine


class LocalPool(GatedPool):
    """Implements `selftaught.pool.AheadPool` with processes on this machine.

    Args:
        slots: jobs that compute at once; the number of cores where left out.
        allow_weak_sandbox: go on, with limits only, where isolation layers are missing.
        allow_network: the operator agrees that candidates reach the network where their task
            permits it.
        on_attempt: told of what candidates tried and may not.

    Raises:
        SandboxUnavailable: isolation layers are missing.
    """

    def __init__(
        self,
        slots: int | None = None,
        *,
        allow_weak_sandbox: bool = False,
        allow_network: bool = False,
        on_attempt: Callable[[str, Attempt], None] | None = None,
    ) -> None:
        super().__init__(Gate(slots or os.cpu_count() or 1), on_attempt)
        begun = early.take(allow_weak_sandbox)
        self.layers = begun.layers.result()
        self.machine = Machine(begun, allow_network=allow_network)
        self._nodes[HERE] = self.machine

    def close(self) -> None:
        """End every process of the pool; what is still being scored ahead is given up."""
        self.machine.close()
