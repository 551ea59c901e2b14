"""The TCP side of the LoopbackServer: connections that can be reset, and all ended at once."""

import socket
import struct
import sys
import threading
from http.server import ThreadingHTTPServer
from socketserver import BaseRequestHandler
from typing import Any


class TrackingServer(ThreadingHTTPServer):
    """Knows its open connections, so that it can end those that clients keep alive.

    Args:
        address: host and port.
        handler: serves one connection; finds `owner` at its server.
        owner: whoever the handler serves for.
    """

    daemon_threads = False
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], handler: type[BaseRequestHandler], owner: Any
    ) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        self._to_reset: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Note a connection that has opened."""
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection, by a reset where that was asked for."""
        with self._open_lock:
            self._open.discard(request)
            resets = request in self._to_reset
            self._to_reset.discard(request)
        if resets:
            # Without lingering, closing sends RST, provided that no FIN has gone before it.
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def reset(self, request: socket.socket) -> None:
        """Have a connection reset as soon as its handler is done."""
        with self._open_lock:
            self._to_reset.add(request)

    def end_connections(self) -> None:
        """Wake the handlers that wait for a further request, so that their threads end."""
        with self._open_lock:
            for request in self._open:
                try:
                    request.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
