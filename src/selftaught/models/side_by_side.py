"""Several blocking calls at once, in threads that never keep the interpreter from ending."""

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

_Result = TypeVar("_Result")


def side_by_side(calls: Sequence[Callable[[], _Result]], width: int) -> list[_Result]:
    """Run the calls, at most `width` at once, and return their results in order.

    The exception of the first call in order that failed is raised at once; calls that have not
    begun by then never do. The threads are daemons, unlike those of ThreadPoolExecutor: after an
    interrupt the program ends without waiting for answers that nobody wants any more. Each call
    sees the context variables of the caller.
    """
    futures: list[Future[_Result]] = [Future() for _ in calls]
    todo = deque(zip(futures, calls, strict=True))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not todo:
                    return
                future, call = todo.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
                    with lock:
                        # Here and not in the caller's thread, which may come too late.
                        todo.clear()
                    future.set_exception(error)

    for _ in range(min(width, len(calls))):
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(work,), name="model", daemon=True).start()
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
