"""Where the agents of a run come in: a port that lets in who holds the token and fits."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from selftaught.errors import ClusterUnavailable
from selftaught.pools.nodes import channel as channels
from selftaught.pools.nodes.channel import Channel, ChannelError
from selftaught.pools.nodes.invitation import Hello, Invitation
from selftaught.pools.nodes.software import software

# Connections that have not said who they are yet; more are closed at once.
MAX_STRANGERS = 64
_AGAIN_S = 0.1


# Made for its effect: agents are greeted side by side, and a type that two threads are the first to
# need crashes msgspec.
msgspec.json.Decoder(Hello)


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that is ready to work.

    Attributes:
        channel: to it.
        name: of its machine.
        slots: jobs that compute there at once.
        layers: of its sandbox, as one text.
        pid: its process there.
    """

    channel: Channel
    name: str
    slots: int
    layers: str
    pid: int


class Door:
    """Listens for agents, in threads of its own.

    Args:
        address: to listen on.
        welcome: what agents are told of how to work.
        on_admitted: gets each that is ready; called in a thread of the agent's.
        on_refused: told of each agent that may not work, by name, with the reason.
        on_stranger: told of each who did not prove that it holds the token, by address.

    Raises:
        ClusterUnavailable: the address cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        *,
        welcome: dict[str, Any],
        on_admitted: Callable[[Admitted], None],
        on_refused: Callable[[str, str], None],
        on_stranger: Callable[[str, str], None],
    ) -> None:
        self.token = channels.new_token()
        self._welcome = welcome
        self._on_admitted = on_admitted
        self._on_refused = on_refused
        self._on_stranger = on_stranger
        self._strangers = threading.BoundedSemaphore(MAX_STRANGERS)
        self._greeted: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._is_closed = False
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self._listener = socket.create_server((address, 0), family=family)
        except OSError as error:
            raise ClusterUnavailable(
                f"Nodes cannot reach this machine at {address}: {error}. Name the address of this "
                "machine on the cluster's network with host=ADDRESS in --pool."
            ) from error
        self._listening = threading.Thread(target=self._listen, name="door", daemon=True)
        self._listening.start()

    def invitation(self, addresses: tuple[str, ...]) -> Invitation:
        """What an agent needs to come in."""
        port = self._listener.getsockname()[1]
        return Invitation(addresses=addresses, port=port, token=self.token)

    def close(self) -> None:
        """Let nobody in any more; who is in stays."""
        with self._lock:
            self._is_closed = True
            greeted = list(self._greeted)
        for connection in greeted:
            _shut(connection)
        _shut(self._listener)
        self._listening.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _listen(self) -> None:
        while True:
            try:
                connection, (address, *_) = self._listener.accept()
            except OSError:
                if self._is_closed:
                    return
                # Out of descriptors, most likely: who waits outside would be tried at once again.
                time.sleep(_AGAIN_S)
                continue
            if not self._strangers.acquire(blocking=False):
                connection.close()
                continue
            thread = threading.Thread(
                target=self._receive, args=(connection, address), name="greeting", daemon=True
            )
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()

    def _receive(self, connection: socket.socket, address: str) -> None:
        with self._lock:
            self._greeted.add(connection)
            if self._is_closed:
                _shut(connection)
        admitted: Admitted | None = None
        try:
            channel = self._channel(connection, address)
            if channel is not None:
                admitted = self._admitted(channel, address)
        except ChannelError as error:
            if not self._is_closed:
                self._on_refused(address, str(error))
        finally:
            with self._lock:
                self._greeted.discard(connection)
            if admitted is None:
                connection.close()
        if admitted is not None:
            self._on_admitted(admitted)

    def _channel(self, connection: socket.socket, address: str) -> Channel | None:
        """The channel to who has proved to be an agent of the run, and is a stranger no more."""
        try:
            return channels.greet(connection, self.token)
        except ChannelError as error:
            if not self._is_closed:
                self._on_stranger(address, str(error))
            return None
        finally:
            self._strangers.release()

    def _admitted(self, channel: Channel, address: str) -> Admitted | None:
        said = channel.receive()
        name = str(said.get("name", ""))[:100] or address
        try:
            hello = msgspec.convert(said, Hello)
            difference = software().difference(hello.software)
        except msgspec.ValidationError as error:
            difference = f"the agent: {error}"
        if difference:
            reason = f"its software is not that of the host ({difference})"
            channel.send({"refused": f"This node is not used: {reason}."})
            self._on_refused(name, reason)
            return None
        channel.send(self._welcome)
        # A sandbox may take longer to start than a channel may be silent.
        while (answer := channel.receive()).get("op") == "alive":
            pass
        if "unable" in answer:
            self._on_refused(name, str(answer["unable"]))
            return None
        return Admitted(
            channel=channel,
            name=name,
            slots=max(1, hello.slots),
            layers=str(answer["ready"]),
            pid=hello.pid,
        )


def _shut(connection: socket.socket) -> None:
    # It may not be connected.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
