"""Frames between the host of a run and the agents on other machines, over TCP.

Both sides hold a token that is made for one run. Each proves it to the other over fresh random
bytes, and every frame carries a code over its number and content, so that nobody without the token
can speak, change, repeat or leave out anything. Nothing is encrypted: who can read the network
can read tasks, programs and prompts, but no key, which never travels.

Frames are those of the pipe to a sandbox (`selftaught.sandbox.guest.wire`): data, bounded, never
unpickled.
"""

import contextlib
import hashlib
import hmac
import secrets
import socket
import struct
import threading
import time
from typing import Any

from selftaught.sandbox.guest import wire

TOKEN_BYTES = 32
# Both sides say that they are there this often, and give the other up after this much silence.
ALIVE_S = 5.0
SILENCE_S = 45.0
# For all of the handshake, however the bytes trickle in.
HANDSHAKE_S = 10.0
_MAGIC = b"selftaught agent 1\n"
_NONCE_BYTES = 32
_CODE_BYTES = hashlib.sha256().digest_size
_NUMBER = struct.Struct(">Q")


class ChannelError(Exception):
    """The connection ended, or what came is not from who holds the token. Says which."""


class NotTrusted(ChannelError):
    """Who answers does not hold the token, or is something else. Says which."""


def new_token() -> str:
    """A token for one run."""
    return secrets.token_hex(TOKEN_BYTES)


def _code(token: str, *parts: bytes) -> bytes:
    return hmac.digest(bytes.fromhex(token), b"".join(parts), "sha256")


class Channel:
    """An authenticated connection. `send` may be called from any thread, `receive` from one.

    Args:
        connection: open, blocking; closed by `close`.
        sends, receives: the keys of the two directions.
    """

    def __init__(self, connection: socket.socket, sends: bytes, receives: bytes) -> None:
        self._connection = connection
        self._sends, self._receives = sends, receives
        self._sent = self._received = 0
        self._lock = threading.Lock()
        self._is_broken = False
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(SILENCE_S)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            WireError: it holds what is no data, or too much; nothing was sent.
            ChannelError: the connection is gone.
        """
        frame = wire.encode(message)
        with self._lock:
            if self._is_broken:
                raise ChannelError("the connection was closed")
            code = hmac.digest(self._sends, _NUMBER.pack(self._sent) + frame, "sha256")
            self._sent += 1
            try:
                self._connection.sendall(frame + code)
            except OSError as error:
                # A part of the frame may be on its way: nothing can follow it.
                self._is_broken = True
                raise ChannelError(f"the connection broke: {error}") from error

    def receive(self) -> dict[str, Any]:
        """Return the next message.

        Raises:
            ChannelError: the connection is gone, silent for too long, or was tampered with.
        """
        header = _read(self._connection, wire.HEADER.size)
        json_length, raw_length = wire.HEADER.unpack(header)
        if json_length > wire.MAX_JSON_BYTES or raw_length > wire.MAX_RAW_BYTES:
            raise ChannelError("a frame is over the limit")
        body = _read(self._connection, json_length)
        blob = _read(self._connection, raw_length)
        told = _read(self._connection, _CODE_BYTES)
        code = hmac.digest(
            self._receives, b"".join((_NUMBER.pack(self._received), header, body, blob)), "sha256"
        )
        if not hmac.compare_digest(code, told):
            raise ChannelError("a frame was changed on its way")
        self._received += 1
        try:
            return wire.decode(body, blob)
        except wire.WireError as error:
            raise ChannelError(str(error)) from error

    def close(self) -> None:
        """Close the connection; whoever receives from it gets a ChannelError."""
        self._is_broken = True
        # The other side may have been faster.
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def greet(connection: socket.socket, token: str) -> Channel:
    """The host's side of the handshake.

    Raises:
        NotTrusted: the other side does not hold the token, or is no agent.
        ChannelError: it did not say in time.
    """
    deadline = time.monotonic() + HANDSHAKE_S
    connection.settimeout(HANDSHAKE_S)
    ours = secrets.token_bytes(_NONCE_BYTES)
    _write(connection, _MAGIC + ours)
    if _read(connection, len(_MAGIC), deadline) != _MAGIC:
        raise NotTrusted("it is no agent")
    theirs = _read(connection, _NONCE_BYTES, deadline)
    proof = _read(connection, _CODE_BYTES, deadline)
    if not hmac.compare_digest(proof, _code(token, b"agent", ours, theirs)):
        raise NotTrusted("it holds another token")
    _write(connection, _code(token, b"host", ours, theirs))
    to_agent, to_host = _keys(token, ours, theirs)
    return Channel(connection, sends=to_agent, receives=to_host)


def present(connection: socket.socket, token: str) -> Channel:
    """The agent's side of the handshake.

    Raises:
        NotTrusted: the other side does not hold the token, or says that we do not.
        ChannelError: it did not say, as one that is asked by too many at once does not.
    """
    deadline = time.monotonic() + HANDSHAKE_S
    connection.settimeout(HANDSHAKE_S)
    if _read(connection, len(_MAGIC), deadline) != _MAGIC:
        raise NotTrusted("it is no host of a run")
    theirs = _read(connection, _NONCE_BYTES, deadline)
    ours = secrets.token_bytes(_NONCE_BYTES)
    _write(connection, _MAGIC + ours + _code(token, b"agent", theirs, ours))
    try:
        proof = _read(connection, _CODE_BYTES, deadline)
    except ChannelError as error:
        if time.monotonic() >= deadline:
            raise
        raise NotTrusted("it refused the token") from error
    if not hmac.compare_digest(proof, _code(token, b"host", theirs, ours)):
        raise NotTrusted("it holds another token")
    to_agent, to_host = _keys(token, theirs, ours)
    return Channel(connection, sends=to_host, receives=to_agent)


def _keys(token: str, host: bytes, agent: bytes) -> tuple[bytes, bytes]:
    return _code(token, b"to agent", host, agent), _code(token, b"to host", host, agent)


def _read(connection: socket.socket, length: int, deadline: float | None = None) -> bytes:
    received = bytearray()
    while len(received) < length:
        if deadline is not None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise ChannelError("the handshake timed out")
            connection.settimeout(left_s)
        try:
            chunk = connection.recv(min(length - len(received), 1 << 20))
        except OSError as error:
            raise ChannelError(f"the connection broke: {error}") from error
        if not chunk:
            raise ChannelError("the other side closed the connection")
        received += chunk
    return bytes(received)


def _write(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError as error:
        raise ChannelError(f"the connection broke: {error}") from error
