"""Attacks through sockets: every way out of the machine, and to other programs on it."""

from selftaught.testing.attacks.attack import Attack, Judge


def _reaches(name: str) -> Judge:
    return lambda report, host: host.was_contacted(name)


def _attempt(
    name: str, gains: str, statements: str, succeeds: Judge | None = None, needs: str = ""
) -> Attack:
    lines = "".join(f"    {line}\n" for line in statements.splitlines())
    body = f"import socket\ndef attack():\n{lines}    return 'done'\n"
    if succeeds is None:
        return Attack(name=name, gains=gains, body=body, needs=needs)
    return Attack(name=name, gains=gains, body=body, needs=needs, succeeds=succeeds)


REACHING = (
    _attempt(
        "connect_by_tcp",
        "any service of this machine and beyond",
        "socket.create_connection(tuple(HOST['tcp_address']), timeout=1).sendall(b'x')",
        _reaches("tcp"),
    ),
    _attempt(
        "send_by_udp",
        "a way out that needs no connection",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.sendto(b'x', tuple(HOST['udp_address']))",
        _reaches("udp"),
    ),
    _attempt(
        "leak_by_a_name_server",
        "a way out through the names that are asked for; the name server is the test's own",
        "query = struct.pack('>6H', 1, 256, 1, 0, 0, 0)\n"
        "for label in (b'what-it-knows', b'example'):\n"
        "    query += bytes([len(label)]) + label\n"
        "query += b'\\0' + struct.pack('>2H', 1, 1)\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.connect(tuple(HOST['udp_address']))\n"
        "s.send(query)",
        _reaches("udp"),
    ),
    _attempt(
        "resolve_a_name",
        "the resolver, and what it talks to",
        "socket.getaddrinfo('localhost', 80)",
        needs="a resolver that knows localhost",
    ),
    _attempt(
        "connect_by_unix_socket",
        "services such as a container engine",
        "socket.socket(socket.AF_UNIX).connect(HOST['unix_address'])",
        _reaches("unix"),
    ),
    _attempt(
        "send_by_unix_datagram",
        "services such as the system log",
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "s.sendto(b'x', HOST['unix_datagram_address'])",
        _reaches("unix_datagram"),
    ),
    _attempt(
        "connect_by_abstract_socket",
        "services that no file permission protects",
        "socket.socket(socket.AF_UNIX).connect(HOST['abstract_address'])",
        _reaches("abstract"),
    ),
    _attempt(
        "listen_for_connections",
        "commands from outside",
        "s = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()",
    ),
)

# Sockets whose mere existence is a wide interface to the kernel.
OPENING = (
    _attempt("open_netlink", "the kernel's configuration", "socket.socket(16, 3, 0)"),
    _attempt(
        "open_raw_socket",
        "forged packets",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        needs="root",
    ),
    _attempt(
        "open_packet_socket", "everybody's traffic", "socket.socket(17, 3, 0x300)", needs="root"
    ),
    _attempt(
        "open_vsock",
        "the host of a virtual machine",
        "socket.socket(40, socket.SOCK_STREAM)",
        needs="a kernel with vsock",
    ),
    _attempt(
        "open_crypto_socket",
        "the kernel's crypto interface",
        "socket.socket(38, 5)",
        needs="a kernel with AF_ALG",
    ),
)

ATTACKS = REACHING + OPENING
