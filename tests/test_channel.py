"""What goes between host and agent: who may speak, and what is noticed on the way."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec
import pytest

from selftaught.pools.nodes import channel as channels
from selftaught.pools.nodes import door as doors
from selftaught.pools.nodes.channel import Channel, ChannelError, greet, new_token, present
from selftaught.pools.nodes.door import Door
from selftaught.pools.nodes.invitation import Hello
from selftaught.pools.nodes.software import software
from selftaught.sandbox.guest.wire import MAX_JSON_BYTES, WireError, encode


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


class Line:
    """Two sockets, and between them somebody who reads, keeps and changes what passes."""

    def __init__(self) -> None:
        self.host, self._host_side = tcp_pair()
        self.agent, self._agent_side = tcp_pair()
        self.passes: Callable[[bytes], bytes] = lambda data: data
        self.seen: list[bytes] = []
        self._threads = [
            threading.Thread(target=self._pass, args=pair, daemon=True)
            for pair in (
                (self._host_side, self._agent_side, False),
                (self._agent_side, self._host_side, True),
            )
        ]
        for thread in self._threads:
            thread.start()

    def _pass(self, source: socket.socket, target: socket.socket, is_watched: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 20):
                if is_watched:
                    self.seen.append(data)
                    data = self.passes(data)
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for end in (self.host, self.agent):
            end.close()
        for thread in self._threads:
            thread.join()
        for end in (self._host_side, self._agent_side):
            end.close()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


def joined(line: Line, token: str = "ab" * 32, other: str = "ab" * 32) -> tuple[Channel, Channel]:
    """The host's channel and the agent's."""
    found: list[Channel] = []
    errors: list[ChannelError] = []

    def agent() -> None:
        try:
            found.append(present(line.agent, other))
        except ChannelError as error:
            errors.append(error)

    thread = threading.Thread(target=agent)
    thread.start()
    try:
        host = greet(line.host, token)
    except ChannelError:
        line.host.close()
        thread.join()
        assert errors
        raise
    thread.join()
    return host, found[0]


def test_both_sides_speak(line: Line) -> None:
    host, agent = joined(line)
    agent.send({"a": [1, 2.5, "x", None]})
    host.send({"raw": b"\0" * 1000})
    assert host.receive() == {"a": [1, 2.5, "x", None]}
    assert agent.receive() == {"raw": b"\0" * 1000}


def test_another_token_is_refused(line: Line) -> None:
    with pytest.raises(ChannelError, match="another token"):
        joined(line, new_token(), new_token())


def test_an_agent_leaves_a_host_that_does_not_hold_the_token(line: Line) -> None:
    """It would have to send what only the token's holder can make."""
    errors: list[ChannelError] = []

    def agent() -> None:
        try:
            present(line.agent, new_token())
        except ChannelError as error:
            errors.append(error)

    thread = threading.Thread(target=agent)
    thread.start()
    line.host.sendall(channels._MAGIC + b"n" * 32)
    line.host.recv(1 << 12)
    line.host.sendall(b"p" * 32)
    thread.join()
    assert "another token" in str(errors[0])


def test_a_changed_byte_is_noticed(line: Line) -> None:
    host, agent = joined(line)
    line.passes = lambda data: data.replace(b"-4.0", b"99.0")
    agent.send({"outcome": "-4.0"})
    with pytest.raises(ChannelError, match="changed on its way"):
        host.receive()


def test_a_repeated_frame_is_noticed(line: Line) -> None:
    host, agent = joined(line)
    line.passes = lambda data: data * 2
    agent.send({"n": 1})
    assert host.receive() == {"n": 1}
    with pytest.raises(ChannelError, match="changed on its way"):
        host.receive()


def test_a_frame_that_comes_back_to_its_sender_is_noticed(line: Line) -> None:
    host, agent = joined(line)
    line.seen.clear()
    agent.send({"n": 1})
    host.receive()
    line._agent_side.sendall(line.seen[0])
    with pytest.raises(ChannelError, match="changed on its way"):
        agent.receive()


def test_a_frame_over_the_limit_is_not_read(line: Line) -> None:
    host, agent = joined(line)
    line.passes = lambda data: (MAX_JSON_BYTES + 1).to_bytes(4, "big") + data[4:]
    agent.send({"n": 1})
    with pytest.raises(ChannelError, match="over the limit"):
        host.receive()


def test_what_cannot_be_sent_breaks_nothing(line: Line) -> None:
    host, agent = joined(line)
    with pytest.raises(WireError):
        agent.send({"object": object()})
    agent.send({"n": 2})
    assert host.receive() == {"n": 2}


def test_silence_ends_a_channel(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "SILENCE_S", 0.1)
    host, _ = joined(line)
    with pytest.raises(ChannelError, match="timed out"):
        host.receive()


def test_the_end_of_the_other_side_is_told(line: Line) -> None:
    host, agent = joined(line)
    agent.close()
    with pytest.raises(ChannelError, match="closed the connection"):
        host.receive()
    with pytest.raises(ChannelError, match="closed"):
        agent.send({"n": 1})


class Watched:
    """A door, who was refused there, and who was a stranger."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.strangers: list[str] = []
        self.door = Door(
            "127.0.0.1",
            welcome={},
            on_admitted=lambda admitted: admitted.channel.close(),
            on_refused=lambda name, reason: self.refused.append(reason),
            on_stranger=lambda address, reason: self.strangers.append(reason),
        )

    def knock(self) -> socket.socket:
        port = self.door.invitation(("127.0.0.1",)).port
        connection = socket.create_connection(("127.0.0.1", port))
        connection.settimeout(30)
        return connection


def test_strangers_at_the_door_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who say nothing, and those who talk nonsense."""
    monkeypatch.setattr(channels, "HANDSHAKE_S", 1.0)
    watched = Watched()
    strangers = [watched.knock() for _ in range(3)]
    strangers[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
    strangers[1].sendall(encode({"op": "score"}) * 100)
    for stranger in strangers:
        while True:
            try:
                if not stranger.recv(1 << 12):
                    break
            except ConnectionResetError:
                break
        stranger.close()
    watched.door.close()
    told = sorted(watched.strangers)
    assert told[:2] == ["it is no agent", "it is no agent"]
    assert "timed out" in told[2]
    # Nobody mistakes them for machines of the cluster.
    assert watched.refused == []


def test_a_stranger_has_its_time_once_and_not_for_each_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channels, "HANDSHAKE_S", 0.3)
    watched = Watched()
    with watched.knock() as stranger, suppress(OSError):
        for byte in channels._MAGIC + b"n" * 64:
            stranger.sendall(bytes([byte]))
            time.sleep(0.05)
        stranger.recv(1 << 12)
    watched.door.close()
    (reason,) = watched.strangers
    assert "timed out" in reason


def test_who_has_proved_to_be_an_agent_is_no_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many start their sandboxes at once."""
    monkeypatch.setattr(doors, "MAX_STRANGERS", 1)
    watched = Watched()
    hello = Hello(software=software(), name="one", slots=1, pid=1)
    with watched.knock() as one:
        agent = present(one, watched.door.token)
        agent.send(msgspec.to_builtins(hello))
        assert agent.receive() == {}
        # It starts its sandbox now.
        with watched.knock() as other:
            present(other, watched.door.token)
            watched.door.close()
    assert watched.strangers == []


def test_an_agent_of_another_version_is_told_so() -> None:
    watched = Watched()
    with watched.knock() as connection:
        agent = present(connection, watched.door.token)
        agent.send({"software": {"selftaught": "0.0.1"}, "name": "old"})
        assert "its software is not that of the host" in agent.receive()["refused"]
    watched.door.close()
    assert "its software is not that of the host" in watched.refused[0]
