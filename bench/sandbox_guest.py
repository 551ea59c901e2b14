"""Measuring operations for a zygote; `bench/sandbox.py` appends them to a copy of its program.

Everything is timed inside the zygote itself, so that "a bare fork" is one of this very process,
with all that it holds in memory, and no message to and fro is in it.
"""

import time


class MeasuredZygote(Zygote):  # noqa: F821 - this text stands behind the zygote's own
    """A zygote that can also time its own children: from fork to reaped, nothing run in them."""

    def serve(self):
        """Answer the shipped commands, and `stages`."""
        operations = {"fork": self.fork, "reap": self.reap, "stages": self.stages}
        while packet := self.control.recv(PACKET_BYTES):  # noqa: F821
            command = json.loads(packet)  # noqa: F821
            operations[command["op"]](command)

    def stages(self, command):
        """Fork a child that goes through the named layers and ends; the seconds of each."""
        seconds = [self._one(stage, command) for stage in command["stages"]]
        self.control.send(json.dumps(seconds).encode())  # noqa: F821

    def _one(self, stage, command):
        ours, theirs = socket.socketpair() if stage == "all" else (None, None)  # noqa: F821
        started = time.perf_counter()
        pid = os.fork()  # noqa: F821
        if pid == 0:
            try:
                self._layers(stage, theirs, command)
            finally:
                os._exit(1)  # noqa: F821
        _, status = os.waitpid(pid, 0)  # noqa: F821
        seconds = time.perf_counter() - started
        if status:
            raise RuntimeError(f"the stage {stage} failed")
        if ours:
            ours.close()
            theirs.close()
        return seconds

    def _layers(self, stage, theirs, command):
        no_new_privs = stage in ("no_new_privs", "landlock", "seccomp")
        if stage == "rlimits":
            self.limit_child(command)
        if no_new_privs:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)  # noqa: F821
        if stage == "landlock":
            landlock.restrict_self(self.ruleset)  # noqa: F821
        if stage == "closed_fds":
            os.closerange(5, 4096)  # noqa: F821
        if stage == "seccomp":
            self.filter.install()
        if stage == "all":
            self.limit_child(command)
            _, ruleset = self.keep_descriptors(theirs.fileno())
            self.restrict_child(ruleset)
        os._exit(0)  # noqa: F821


Zygote = MeasuredZygote
