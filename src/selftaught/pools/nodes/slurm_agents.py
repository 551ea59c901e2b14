"""Starts agents as Slurm jobs, with submitit.

`python -m selftaught.pools.nodes.slurm_agents` is a process of its own (see `starting`), and the
only one that imports submitit. `sbatch` hands its environment on to jobs, so it must not hold a
key. The invitation lies in a file that only its owner can read, in a folder that all machines of
the cluster see; it is removed at the end.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from selftaught.pools.nodes.invitation import AgentStart
from selftaught.pools.nodes.running import run_agent_function
from selftaught.pools.nodes.starting import HostLink, Order, Said

LOOK_S = 1.0
_ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "OUT_OF_MEMORY", "NODE_FAIL")
_ENDED_STATES = (*_ENDED, "BOOT_FAIL", "DEADLINE", "INTERRUPTED", "FINISHED")
# Of the URL's options, what submitit calls them in Slurm.
_PASSED = {
    "account": "slurm_account",
    "qos": "slurm_qos",
    "constraint": "slurm_constraint",
    "mem": "slurm_mem",
}


class Jobs:
    """The agents of one run as jobs of Slurm.

    Args:
        submitit: the module.
        order: what to start.
        folder: that all machines see, for this run alone.
        say: tells the host.
    """

    def __init__(
        self, submitit: Any, order: Order, folder: Path, say: Callable[[Said], None]
    ) -> None:
        self._order = order
        self._folder = folder
        self._say = say
        self._jobs: dict[str, Any] = {}
        options = order.options
        self._cores = int(options.get("cpus", "1"))
        self._executor = submitit.AutoExecutor(
            folder=folder, cluster=options.get("executor", "slurm")
        )
        self._executor.update_parameters(
            name="selftaught",
            timeout_min=int(options.get("time", "60")),
            cpus_per_task=self._cores,
            tasks_per_node=1,
            nodes=1,
            slurm_partition=order.where,
            **{name: options[key] for key, name in _PASSED.items() if key in options},
        )

    def submit(self) -> None:
        """Give the jobs to Slurm; where it does not take one, those before are there to cancel."""
        nodes = int(self._order.options.get("nodes", "1"))
        for number in range(1, nodes + 1):
            job = self._executor.submit(run_agent_function(), str(self._instructions(number)))
            self._jobs[f"job {job.job_id}"] = job
        self._say(Said(expected=nodes))

    def _instructions(self, number: int) -> Path:
        start = AgentStart(
            invitation=self._order.invitation,
            name=f"{self._order.where} {number}",
            slots=self._order.slots or self._cores,
        )
        path = self._folder / f"agent-{number}.json"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(start) + b"\n")
        return path

    def look(self) -> None:
        """Tell of the jobs that ended."""
        for name, job in list(self._jobs.items()):
            state = str(job.state).partition(" ")[0]
            if state in _ENDED_STATES or job.done():
                del self._jobs[name]
                self._say(Said(node=name, reason=f"Slurm says {state.lower()}"))
        if not self._jobs:
            self._say(Said(failed="All jobs that Slurm was given for this run have ended."))
        time.sleep(LOOK_S)

    def cancel(self) -> None:
        """End the jobs that are left, those in the queue too."""
        for job in self._jobs.values():
            job.cancel(check=False)


def main() -> None:
    """Submit the jobs, and watch them until the host is done."""
    link = HostLink()
    order = link.order
    try:
        import submitit

        parent = Path(order.options.get("folder", ".")).resolve()
        folder = Path(tempfile.mkdtemp(prefix="selftaught-slurm-", dir=parent))
    except (ImportError, OSError) as error:
        link.say(Said(failed=f"Agents cannot be given to Slurm: {error}."))
        return
    jobs: Jobs | None = None
    try:
        jobs = Jobs(submitit, order, folder, link.say)
        jobs.submit()
        while not link.ended.is_set():
            jobs.look()
    except (RuntimeError, OSError, submitit.core.utils.FailedJobError) as error:
        reason = str(error).strip().splitlines()[-1][:300]
        link.say(Said(failed=f"Slurm did not take the agents: {reason}"))
    finally:
        if jobs is not None:
            jobs.cancel()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
