"""Runs the command line in processes that die where they are told to; see `chaos_run`.

It has loaded everything once and forks for each command, so that a case costs a run and no start.
A line on stdin is `{"id", "arguments", "folder", "death", "clock_s"}` or `{"wait": PID}`; each is
answered by a line. Nothing of this is in the program that is tested: its store is wrapped here.
"""

import gc
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import selftaught.cli
import selftaught.events
import selftaught.runs.launch
import selftaught.store.postgres
import selftaught.store.sqlite
from selftaught.events import kind

for heavy in ("openai", "psycopg", "httpx"):
    if importlib.util.find_spec(heavy):
        importlib.import_module(heavy)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Death:
    """Kills this process at the `number`-th event of a kind in a run, counted from its first.

    `when` is `before` the event is appended, `within` its transaction, or `after` it.
    """

    def __init__(self, kind: str, number: int, when: str) -> None:
        self.kind, self.number, self.when = kind, number, when
        self._seen: int | None = None
        self._is_committing = False

    def wrap(self, store: Any) -> None:
        append, transaction = store.append_with_texts, store._transaction

        def appending(one: Any, run: str, event: Any, texts: Any) -> int:
            if self._is_next(one, run, event):
                if self.when == "before":
                    die()
                self._is_committing = self.when == "within"
                append(one, run, event, texts)
                die()
            number: int = append(one, run, event, texts)
            return number

        def committing(one: Any) -> AbstractContextManager[Any]:
            return self._transaction(transaction, one)

        store.append_with_texts, store._transaction = appending, committing

    def _is_next(self, store: Any, run: str, event: Any) -> bool:
        if kind(event) != self.kind:
            return False
        if self._seen is None:
            self._seen = sum(1 for _ in store.events(run, (self.kind,)))
        self._seen += 1
        return self._seen == self.number

    @contextmanager
    def _transaction(self, transaction: Callable[[Any], Any], store: Any) -> Iterator[Any]:
        with transaction(store) as connection:
            yield connection
            if self._is_committing:
                die()


def run(command: dict[str, Any]) -> None:
    """In the child: be the command line of selftaught, to the end."""
    os.chdir(command["folder"])
    for number, name in ((1, "out"), (2, "err")):
        target = os.open(f"{command['id']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, number)
        os.close(target)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.environ.update(command.get("environment", {}))
    stores = selftaught.store.sqlite.SQLiteStore, selftaught.store.postgres.PostgresStore
    if command.get("death"):
        for store in stores:
            Death(**command["death"]).wrap(store)
    if command.get("clock_s"):
        shift_s, now = command["clock_s"], time.time
        time.time = lambda: now() + shift_s
        for store in stores:
            store.open.__func__.__kwdefaults__["clock"] = time.time  # type: ignore[attr-defined]
    sys.argv = ["selftaught", *command["arguments"]]
    try:
        selftaught.cli.main()
        code: Any = 0
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def main() -> None:
    gc.freeze()
    statuses: dict[int, int] = {}
    started: set[int] = set()
    for line in sys.stdin:
        command = json.loads(line)
        if "wait" in command:
            pid = command["wait"]
            while pid not in statuses:
                ended, status = os.wait()
                started.discard(ended)
                statuses[ended] = os.waitstatus_to_exitcode(status)
            answer = statuses.pop(pid)
        else:
            answer = os.fork()
            if answer == 0:
                run(command)
            started.add(answer)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    for pid in started:
        # Of a test that failed.
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
