"""A machine of a cluster as the host of a run sees it: requests to its agent, and their answers."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import msgspec

from selftaught.errors import (
    ProcessLost,
    SandboxUnavailable,
    SelftaughtError,
    TaskError,
    UsageError,
)
from selftaught.pool import Attempt, NodeLost, ScoreJob
from selftaught.pools.machine import Interruptible
from selftaught.pools.nodes.agent import beat_until_closed
from selftaught.pools.nodes.channel import Channel, ChannelError
from selftaught.pools.nodes.task_files import packed
from selftaught.sandbox.guest import wire
from selftaught.task import Task
from selftaught.utility import OUTCOMES, Failed, Failure, InvalidValue, Outcome

_CLOSED = "the pool was closed"
_ERRORS: dict[str, type[Exception]] = {
    "lost": ProcessLost,
    "sandbox": SandboxUnavailable,
    "task": TaskError,
    "usage": UsageError,
    "wire": wire.WireError,
}

_ENDS: msgspec.json.Decoder[Failure] = msgspec.json.Decoder(Failure)


class RemoteNode:
    """Implements `selftaught.pools.machine.Node` over a channel to an agent.

    Args:
        channel: of an agent that is ready; closed by `close`.
        name: of the machine, unique in the pool.
        slots: jobs that it computes at once.
        on_lost: told once, with a reason, when the agent is gone; not after `close`.
    """

    def __init__(
        self, channel: Channel, name: str, slots: int, on_lost: Callable[["RemoteNode", str], None]
    ) -> None:
        self.name = name
        self.slots = slots
        self._channel = channel
        self._on_lost = on_lost
        self._numbers = itertools.count(1)
        self._asked: dict[int, Future[dict[str, Any]]] = {}
        self._tasks: dict[str, Future[None]] = {}
        self._gone: str | None = None
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name=f"node {name}", daemon=True)

    def start(self) -> None:
        """Begin to listen to the agent."""
        self._reader.start()
        beat_until_closed(self._channel)

    def score(
        self, job: ScoreJob, underway: Interruptible | None = None
    ) -> tuple[Outcome, list[Attempt]]:
        """Score a program there; see `selftaught.pools.machine.Node.score`."""
        key = self._sent(job.task)
        number = next(self._numbers)
        was_ended = threading.Event()

        def end() -> None:
            was_ended.set()
            self._tell({"op": "end", "id": number})

        try:
            asked = self._ask(
                number,
                op="score",
                task=key,
                source=job.solution.source,
                split=job.split,
                repeat=job.repeat,
            )
            if underway is not None:
                # Not before: what the agent does not know of it cannot end.
                underway.begin(end)
            reply = self._answer(asked)
        except SandboxUnavailable as error:
            if was_ended.is_set():
                raise
            raise self._dropped(error) from error
        except wire.WireError as error:
            return Failed(reason=f"the score cannot be sent: {error}"), []
        finally:
            if underway is not None:
                underway.done()
        outcome: Outcome = OUTCOMES.decode(reply["outcome"])
        return outcome, _attempts(reply)

    def fork(self, improver: str) -> "RemoteTurns":
        """A sandbox there for an improver."""
        number = next(self._numbers)
        try:
            self._request(number, op="fork", improver=improver)
        except SandboxUnavailable as error:
            raise self._dropped(error) from error
        return RemoteTurns(self, number)

    def turn(
        self, improver: int, message: dict[str, Any], note: Callable[[Attempt], None]
    ) -> dict[str, Any] | Failure:
        """One turn of an improver there."""
        try:
            reply = self._request(
                next(self._numbers), op="turn", improver=improver, message=message
            )
        except wire.WireError as error:
            return Failed(reason=f"a message cannot be sent: {error}")
        for attempt in _attempts(reply):
            note(attempt)
        if "ended" in reply:
            return _ENDS.decode(reply["ended"])
        try:
            return _opened(reply["reply"])
        except wire.WireError as error:
            return InvalidValue(reason=f"the pipe carried no valid frame: {error}")

    def end_improver(self, improver: int) -> None:
        """End an improver there; nobody waits for it."""
        self._tell({"op": "close", "id": next(self._numbers), "improver": improver})

    def close(self) -> None:
        """Tell the agent that the run is over, and let it go."""
        self._give_up(_CLOSED)
        self._tell({"op": "over"})
        self._channel.close()
        if self._reader.is_alive() and self._reader is not threading.current_thread():
            self._reader.join()

    def _sent(self, task: Task) -> str:
        """The key of a task that the agent has; the first who needs it sends it."""
        key = f"{task.folder} {task.digest}"
        with self._lock:
            sent = self._tasks.get(key)
            is_mine = sent is None
            if sent is None:
                sent = self._tasks[key] = Future()
        if is_mine:
            try:
                self._request(next(self._numbers), op="task", key=key, task=packed(task))
                sent.set_result(None)
            except BaseException as error:
                sent.set_exception(error)
                with self._lock:
                    del self._tasks[key]
                raise
        sent.result()
        return key

    def _request(self, number: int, **message: Any) -> dict[str, Any]:
        """Ask the agent for something and wait for the answer; raises what those two do."""
        return self._answer(self._ask(number, **message))

    def _ask(self, number: int, **message: Any) -> Future[dict[str, Any]]:
        """Ask the agent for something.

        Raises:
            NodeLost: the agent is gone.
            WireError: the message cannot be sent.
        """
        asked: Future[dict[str, Any]] = Future()
        with self._lock:
            if self._gone is not None:
                raise NodeLost(f"{self.name}: {self._gone}")
            self._asked[number] = asked
        try:
            self._channel.send({**message, "id": number})
        except ChannelError as error:
            self._give_up(str(error))
        except wire.WireError:
            with self._lock:
                self._asked.pop(number, None)
            raise
        return asked

    def _answer(self, asked: Future[dict[str, Any]]) -> dict[str, Any]:
        """What the agent answers.

        Raises:
            NodeLost: the agent is gone.
            WireError: the answer cannot be sent.
            SelftaughtError: what the agent says.
        """
        reply = asked.result()
        if "error" in reply:
            raise _ERRORS[reply["error"]](f"On {self.name}: {reply['reason']}")
        return reply

    def _dropped(self, error: SelftaughtError) -> NodeLost:
        """Use this node no more, since no job can run there."""
        self._give_up(str(error))
        return NodeLost(str(error))

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self._channel.send(message)
        except ChannelError as error:
            self._give_up(str(error))

    def _read(self) -> None:
        while True:
            try:
                message = self._channel.receive()
            except ChannelError as error:
                self._give_up(str(error))
                return
            if "id" in message:
                with self._lock:
                    asked = self._asked.pop(message["id"], None)
                if asked is not None:
                    asked.set_result(message)

    def _give_up(self, reason: str) -> None:
        """Whoever waits for the agent gets NodeLost."""
        with self._lock:
            is_news = self._gone is None
            self._gone = self._gone or reason
            waiting, self._asked = list(self._asked.values()), {}
        try:
            if is_news and reason != _CLOSED:
                # First, so that nobody is sent here again.
                self._on_lost(self, reason)
        finally:
            if reason != _CLOSED:
                self._channel.close()
            for asked in waiting:
                asked.set_exception(NodeLost(f"{self.name}: {self._gone}"))


class RemoteTurns:
    """Implements `selftaught.pools.turns.Turns` on a node."""

    def __init__(self, node: RemoteNode, number: int) -> None:
        self._node = node
        self._number = number

    def turn(
        self, message: dict[str, Any], note: Callable[[Attempt], None]
    ) -> dict[str, Any] | Failure:
        """See `Turns.turn`."""
        return self._node.turn(self._number, message, note)

    def close(self) -> None:
        """See `Turns.close`."""
        self._node.end_improver(self._number)


def _opened(frame: bytes) -> dict[str, Any]:
    """The message of a whole frame; what an untrusted program says, so decoded with care."""
    json_length, raw_length = wire.HEADER.unpack_from(frame)
    raw_at = wire.HEADER.size + json_length
    if json_length > wire.MAX_JSON_BYTES or raw_at + raw_length != len(frame):
        raise wire.WireError("A frame is not whole.")
    return wire.decode(frame[wire.HEADER.size : raw_at], frame[raw_at:])


def _attempts(reply: dict[str, Any]) -> list[Attempt]:
    return [Attempt(what=str(what), detail=str(detail)) for what, detail in reply["attempts"]]
