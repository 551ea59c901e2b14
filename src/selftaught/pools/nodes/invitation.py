"""What an agent needs to know to join a run, and what it says of itself."""

import msgspec

from selftaught.pools.nodes.software import Software


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """Where the host of a run listens, and what it knows its agents by.

    Attributes:
        addresses: names or addresses of the host; the first that answers is taken.
        port: of the host.
        token: hexadecimal; whoever holds it may work for the run, and see its tasks and programs.
    """

    addresses: tuple[str, ...]
    port: int
    token: str


class AgentStart(msgspec.Struct, frozen=True, kw_only=True):
    """One agent's instructions, as its program reads them.

    Attributes:
        invitation: the run's.
        name: of the machine, as people know it.
        slots: jobs that compute there at once.
    """

    invitation: Invitation
    name: str
    slots: int


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The first that an agent says over its channel.

    Attributes:
        software: what is installed there.
        name: of its machine.
        slots: jobs that compute there at once.
        pid: its process there.
    """

    software: Software
    name: str
    slots: int
    pid: int
