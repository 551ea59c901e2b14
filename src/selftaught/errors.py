"""The exceptions that a caller of selftaught may see.

    SelftaughtError
    ├── UsageError            the request itself cannot be meant (exit code 2)
    ├── TaskError             a task folder is missing, broken or does not check
    ├── SolutionError         a program text cannot be a solution
    ├── SandboxUnavailable    this machine lacks an isolation layer
    │   └── ProcessLost       a process of the sandbox was killed from outside
    ├── ClusterUnavailable    no other machine runs the jobs of a run
    ├── StoreError            the event store cannot be opened, read or written
    ├── ModelError            the language model cannot answer
    │   ├── ModelUnreachable      no answer within the retries
    │   ├── ModelRefused          wrong key, unknown model
    │   │   └── RequestRejected       this one prompt; the improver is told, the run goes on
    │   └── ReplayMismatch        a recorded run was asked something it never recorded
    ├── BudgetSpent           an improver's limit was reached before its request was served
    ├── RunBudgetSpent        a limit of the whole run was reached
    ├── NotRecorded           a run is read back, and its record ends here
    └── Interrupted           the run was told to stop; it can be resumed

Messages say what happened, with the value, and what to do about it. No message shows a secret.
"""

from selftaught.redaction import redacted


class SelftaughtError(Exception):
    """Root of every error that selftaught raises on purpose."""

    def __str__(self) -> str:
        return redacted(super().__str__())


class UsageError(SelftaughtError):
    """The request cannot be meant: an unknown name, a zero budget, a bad flag."""


class TaskError(SelftaughtError):
    """A task folder is missing, broken, or does not pass its check."""


class SolutionError(SelftaughtError):
    """A program text cannot serve as a solution: empty, too long, or syntactically wrong."""


class SandboxUnavailable(SelftaughtError):
    """An isolation layer that is required is missing on this machine."""


class ProcessLost(SandboxUnavailable):
    """A process of the sandbox was killed that no program in it can kill: memory ran out, say."""


class ClusterUnavailable(SelftaughtError):
    """A cluster cannot be used, or none of its machines is left."""


class StoreError(SelftaughtError):
    """The event store cannot be opened, read or written."""


class ModelError(SelftaughtError):
    """The language model cannot answer."""


class ModelUnreachable(ModelError):
    """No usable answer came back within the retries: network, timeout, server fault."""


class ModelRefused(ModelError):
    """The endpoint answered and said no: no key, wrong key, unknown model."""


class RequestRejected(ModelRefused):
    """The endpoint does not take this one request, a prompt too long for it, say."""


class ReplayMismatch(ModelError):
    """A recorded run was asked for an exchange that it does not hold."""


class BudgetSpent(SelftaughtError):
    """A limit was reached, so the request was not served. `limit` names which one."""

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


class RunBudgetSpent(SelftaughtError):
    """A limit of the whole run was reached; what was found so far is kept."""


class NotRecorded(SelftaughtError):
    """A run is read back from its record, and what comes next is not in it."""


class Interrupted(SelftaughtError):
    """The run was told to stop. Everything recorded so far is kept, and `resume` goes on."""
