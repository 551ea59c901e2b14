"""The agent: a trusted process on another machine that runs jobs for the host of a run.

`python -m selftaught.pools.nodes.agent` reads its instructions as one line of JSON on standard
input, and connects back to the host. It holds evaluators and
sandboxes like a pool of this machine. It gets no key, no account and no store: tasks, programs and
messages come over the channel, outcomes and messages go back.

It ends, with all that it started, when the host says so, when the connection breaks, or when its
standard input ends. Exit codes: 0 when the run is over, 3 when the host or this machine refuses.
"""

import contextlib
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from selftaught.errors import ProcessLost, SandboxUnavailable, SelftaughtError, UsageError
from selftaught.pool import Attempt, ScoreJob
from selftaught.pools import early
from selftaught.pools.machine import Machine
from selftaught.pools.nodes import channel as channels
from selftaught.pools.nodes.channel import Channel, ChannelError, NotTrusted
from selftaught.pools.nodes.invitation import AgentStart, Hello, Invitation
from selftaught.pools.nodes.private_folder import private_folder
from selftaught.pools.nodes.software import software
from selftaught.pools.nodes.task_files import unpacked
from selftaught.pools.turns import SandboxedTurns
from selftaught.sandbox.guest import wire
from selftaught.solution import Solution
from selftaught.task import Task
from selftaught.utility import Failure, InvalidValue

EXIT_REFUSED = 3
EXIT_TERMINATED = 128 + signal.SIGTERM
CONNECT_S = 60.0
# From the moment that there is nobody to work for to the end, whatever still hangs.
LAST_S = 15.0


class _Score:
    """A score under way. Implements `Interruptible`."""

    def __init__(self) -> None:
        self._end: Callable[[], None] | None = None
        self._is_unwanted = False
        self._lock = threading.Lock()

    def begin(self, end: Callable[[], None]) -> None:
        """See `Interruptible`."""
        with self._lock:
            self._end = end
            if self._is_unwanted:
                end()

    def done(self) -> None:
        """See `Interruptible`."""
        with self._lock:
            self._end = None

    def end(self) -> None:
        """End it, if it is still under way; one that has not begun ends when it does."""
        with self._lock:
            self._is_unwanted = True
            if self._end is not None:
                self._end()


class Agent:
    """Answers the host's requests, each in a thread of its own.

    Args:
        channel: to the host.
        machine: where jobs run; closed by its owner.
        folder: for the files of tasks.
        slots: how many jobs the host runs here at once.
    """

    def __init__(self, channel: Channel, machine: Machine, folder: Path, slots: int) -> None:
        self._channel = channel
        self._machine = machine
        self._folder = folder
        # Twice: a place gives a slot more than its own to turns.
        self._threads = ThreadPoolExecutor(2 * slots + 4, thread_name_prefix="request")
        self._tasks: dict[str, Task] = {}
        self._scores: dict[int, _Score] = {}
        self._improvers: dict[int, tuple[SandboxedTurns, threading.Lock]] = {}

    def serve(self) -> None:
        """Serve until the host says that the run is over.

        Raises:
            ChannelError: the connection broke.
        """
        while True:
            message = self._channel.receive()
            match message["op"]:
                case "over":
                    return
                case "alive":
                    pass
                case "end":
                    score = self._scores.get(message["id"])
                    if score is not None:
                        score.end()
                case "score":
                    # Known from now on: it may be ended before it has begun.
                    self._scores[message["id"]] = _Score()
                    self._begin(message)
                case _:
                    self._begin(message)

    def close(self) -> None:
        """End what is under way."""
        self._machine.close()
        self._threads.shutdown(cancel_futures=True)
        for turns, _ in list(self._improvers.values()):
            turns.close()

    def _begin(self, message: dict[str, Any]) -> None:
        answering = self._threads.submit(self._answer, message)
        answering.add_done_callback(self._answered)

    def _answered(self, answering: "Future[None]") -> None:
        if not answering.cancelled() and answering.exception() is not None:
            # A defect of this program. The host does what it asked for elsewhere.
            self._channel.close()

    def _answer(self, message: dict[str, Any]) -> None:
        try:
            reply = _OPERATIONS[message["op"]](self, message)
        except (SelftaughtError, wire.WireError) as error:
            reply = {"error": _kind_of(error), "reason": str(error)}
        try:
            self._channel.send({**reply, "id": message["id"]})
        except wire.WireError as error:
            reply = {"error": "wire", "reason": str(error), "id": message["id"]}
            with contextlib.suppress(ChannelError):
                self._channel.send(reply)
        except ChannelError:
            # The reading side ends this process.
            pass

    def _task(self, message: dict[str, Any]) -> dict[str, Any]:
        self._tasks[message["key"]] = unpacked(message["task"], self._folder)
        return {}

    def _score(self, message: dict[str, Any]) -> dict[str, Any]:
        task = self._tasks[message["task"]]
        solution = Solution(message["source"], task.initial.entry_point, task.language)
        job = ScoreJob(
            task=task, solution=solution, split=message["split"], repeat=message["repeat"]
        )
        try:
            outcome, attempts = self._machine.score(job, self._scores[message["id"]])
        finally:
            del self._scores[message["id"]]
        return {
            "outcome": msgspec.json.encode(outcome).decode(),
            "attempts": _as_data(attempts),
        }

    def _fork(self, message: dict[str, Any]) -> dict[str, Any]:
        self._improvers[message["id"]] = self._machine.fork(message["improver"]), threading.Lock()
        return {}

    def _turn(self, message: dict[str, Any]) -> dict[str, Any]:
        turns, lock = self._improvers[message["improver"]]
        attempts: list[Attempt] = []
        with lock:
            reply = turns.turn(message["message"], attempts.append)
        told = {"attempts": _as_data(attempts)}
        if isinstance(reply, dict):
            try:
                # Bytes for the host to take apart: what an improver says must break no channel.
                return {**told, "reply": wire.encode(reply)}
            except wire.WireError as error:
                reply = InvalidValue(reason=f"the pipe carried no valid frame: {error}")
        ended: Failure = reply
        return {**told, "ended": msgspec.json.encode(ended).decode()}

    def _close(self, message: dict[str, Any]) -> dict[str, Any]:
        turns, lock = self._improvers.pop(message["improver"])
        with lock:
            turns.close()
        return {}


_OPERATIONS: dict[str, Callable[[Agent, dict[str, Any]], dict[str, Any]]] = {
    "task": Agent._task,
    "score": Agent._score,
    "fork": Agent._fork,
    "turn": Agent._turn,
    "close": Agent._close,
}


def _as_data(attempts: list[Attempt]) -> list[list[str]]:
    return [[attempt.what, attempt.detail] for attempt in attempts]


def _kind_of(error: Exception) -> str:
    if isinstance(error, ProcessLost):
        return "lost"
    if isinstance(error, SandboxUnavailable):
        return "sandbox"
    if isinstance(error, wire.WireError):
        return "wire"
    return "usage" if isinstance(error, UsageError) else "task"


class Refusal(Exception):
    """The host, or this machine, does not want this agent to work. Says why."""


def work(start: AgentStart, folder: Path) -> None:
    """Join the run, and work until it is over.

    Raises:
        Refusal: it cannot be joined.
        ChannelError: the connection could not be made, or broke.
    """
    channel = join(start.invitation)
    agent: Agent | None = None
    try:
        hello = Hello(software=software(), name=start.name, slots=start.slots, pid=os.getpid())
        channel.send(msgspec.to_builtins(hello))
        welcome = channel.receive()
        if "refused" in welcome:
            raise Refusal(str(welcome["refused"]))
        beat_until_closed(channel)
        machine = _machine(channel, welcome)
        agent = Agent(channel, machine, folder, start.slots)
        channel.send({"ready": "+".join(machine.layers)})
        agent.serve()
    finally:
        _end_at_last(folder)
        channel.close()
        if agent is not None:
            agent.close()


def _machine(channel: Channel, welcome: dict[str, Any]) -> Machine:
    try:
        begun = early.take(bool(welcome["allow_weak_sandbox"]))
    except SandboxUnavailable as error:
        channel.send({"unable": str(error)})
        raise Refusal(str(error)) from error
    return Machine(begun, allow_network=bool(welcome["allow_network"]))


def join(invitation: Invitation) -> Channel:
    """Connect to the host of a run and prove that we were invited.

    Raises:
        Refusal: the host does not know the token.
        ChannelError: it cannot be reached.
    """
    deadline = time.monotonic() + CONNECT_S
    while True:
        reasons = []
        for address in invitation.addresses:
            try:
                connection = socket.create_connection((address, invitation.port), timeout=10)
            except OSError as error:
                reasons.append(f"{address}:{invitation.port}: {error}")
                continue
            try:
                return channels.present(connection, invitation.token)
            except NotTrusted as error:
                connection.close()
                raise Refusal(f"The host at {address}:{invitation.port}: {error}.") from error
            except ChannelError as error:
                # Many come at once, or strangers keep the door busy.
                connection.close()
                reasons.append(f"{address}:{invitation.port}: {error}")
        if time.monotonic() > deadline:
            raise ChannelError(f"the host of the run cannot be reached: {'; '.join(reasons)}")
        time.sleep(1.0)


def beat_until_closed(channel: Channel) -> None:
    """Say that we are there, every ALIVE_S, in a thread that ends with the channel."""

    def beat() -> None:
        with contextlib.suppress(ChannelError):
            while True:
                channel.send({"op": "alive"})
                time.sleep(channels.ALIVE_S)

    threading.Thread(target=beat, name="alive", daemon=True).start()


def _end_at_last(folder: Path) -> None:
    timer = threading.Timer(LAST_S, _end, args=[folder])
    timer.daemon = True
    timer.start()


def _end(folder: Path) -> None:
    """End this process at once; its evaluators and sandboxes end when their pipes do."""
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _end_with_starter(folder: Path) -> None:
    """End this process when its standard input ends: who started it is gone."""
    while os.read(0, 1 << 12):
        pass
    _end(folder)


def main() -> int:
    """Read the instructions and work."""
    # As scancel ends it: in order, with what it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(EXIT_TERMINATED))
    with private_folder() as folder:
        with os.fdopen(0, "rb", buffering=0, closefd=False) as source:
            line = source.readline()
        threading.Thread(target=_end_with_starter, args=[folder], daemon=True).start()
        try:
            work(msgspec.json.decode(line, type=AgentStart), folder)
        except (Refusal, ChannelError) as error:
            sys.stderr.write(f"{error}\n")
            return EXIT_REFUSED if isinstance(error, Refusal) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
