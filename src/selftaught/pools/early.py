"""The processes that every run needs, begun before it is known what the run is.

An evaluator and the zygote of improvers take about as long to start as the host takes to read its
command line and to load its own parts. So they are begun first of all. The next `LocalPool` takes
them; `discard` ends what none took.
"""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from selftaught.errors import SandboxUnavailable
from selftaught.pools.evaluator_process import EvaluatorProcess
from selftaught.sandbox.layers import start_strongest
from selftaught.sandbox.zygote import Zygote

# Improvers may import it; few do, and it takes longer to load than all else that they need.
IMPROVER_MODULES = ("numpy",)


def improver_zygote(layers: tuple[str, ...], preload: tuple[str, ...]) -> Zygote:
    """Start a zygote for improvers that has loaded some of IMPROVER_MODULES."""
    fences = (Path(__file__).parents[1] / "fences.py").read_text(encoding="utf-8")
    return Zygote(layers, IMPROVER_MODULES, {"helpers": fences}, preload)


class Begun:
    """Processes that are starting, in threads of their own.

    Attributes:
        starting: the threads, for whatever else is to be started.
        layers: of the sandbox; raises SandboxUnavailable where isolation layers are missing.
        zygote: of improvers, with nothing preloaded.
        evaluator: the first one.
    """

    def __init__(self, allow_weak_sandbox: bool = False) -> None:
        self.starting = ThreadPoolExecutor(thread_name_prefix="starting")
        # The first zygote that starts shows which layers there are.
        first = self.starting.submit(
            start_strongest, lambda layers: improver_zygote(layers, ()), allow_weak_sandbox
        )
        self.layers: Future[tuple[str, ...]] = self.starting.submit(lambda: first.result()[0])
        self.zygote: Future[Zygote] = self.starting.submit(lambda: first.result()[1])
        self.evaluator: Future[EvaluatorProcess] = self.starting.submit(
            lambda: EvaluatorProcess(self.layers.result())
        )

    def close(self) -> None:
        """End them, once they have started."""
        self.starting.shutdown()
        for future in (self.zygote, self.evaluator):
            if future.exception() is None:
                future.result().close()


_begun: list[Begun] = []
_lock = threading.Lock()


def begin() -> None:
    """Begin to start the processes of the next pool, unless that was done already."""
    with _lock:
        if not _begun:
            _begun.append(Begun())


def take(allow_weak_sandbox: bool) -> Begun:
    """Return what was begun, or begin now; the caller closes its parts.

    Raises:
        SandboxUnavailable: isolation layers are missing, and `allow_weak_sandbox` is false.
    """
    with _lock:
        begun = _begun.pop() if _begun else Begun(allow_weak_sandbox)
    try:
        begun.layers.result()
    except SandboxUnavailable:
        begun.close()
        if not allow_weak_sandbox:
            raise
        begun = Begun(allow_weak_sandbox)
        begun.layers.result()
    return begun


def discard() -> None:
    """End what was begun and not taken."""
    with _lock:
        begun = _begun.pop() if _begun else None
    if begun is not None:
        begun.close()
