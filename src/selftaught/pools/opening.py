"""Which pool `--pool` names: this machine, the nodes of a Ray cluster, or jobs of Slurm."""

import importlib.util
import ipaddress
import socket
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urlsplit

import msgspec

from selftaught.errors import UsageError
from selftaught.pool import AheadPool, Attempt
from selftaught.pools import early
from selftaught.pools.cluster import ClusterPool, ClusterSettings, Starter
from selftaught.pools.local import LocalPool
from selftaught.pools.nodes.invitation import Invitation
from selftaught.pools.nodes.starting import Order, StartingProcess

LOCAL = "local"
_EVERY = ("host", "start", "patience")
_SECONDS = ("start", "patience")
_COUNTS = ("nodes", "cpus", "time")


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of cluster.

    Attributes:
        module: the program that starts agents there.
        extra: of this package; imports `package`.
        options: that its URL takes.
        variables: beginnings of the names of environment variables that it needs.
        start_s: seconds to wait for the first node, if the URL does not say.
    """

    module: str
    extra: str
    package: str
    options: tuple[str, ...]
    variables: tuple[str, ...]
    start_s: float


KINDS = {
    "ray": Kind(
        module="selftaught.pools.nodes.ray_agents",
        extra="ray",
        package="ray",
        options=_EVERY,
        variables=("RAY_",),
        start_s=120.0,
    ),
    "slurm": Kind(
        module="selftaught.pools.nodes.slurm_agents",
        extra="slurm",
        package="submitit",
        options=(
            *(*_EVERY, *_COUNTS, "folder", "executor"),
            *("account", "qos", "constraint", "mem"),
        ),
        variables=("SLURM_CONF", "SBATCH_"),
        # A queue may be long.
        start_s=3600.0,
    ),
}


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster as a URL names it: its kind, where it is, and options."""

    kind: Kind
    where: str
    options: dict[str, str]


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a run wants its pool.

    Attributes:
        url: as after `--pool`.
        slots: jobs that compute at once, on each machine; None for what it has.
        allow_weak_sandbox, allow_network: as of `LocalPool`.
        allow_open_cluster: use a Ray cluster that lets anybody in.
    """

    url: str = LOCAL
    slots: int | None = None
    allow_weak_sandbox: bool = False
    allow_network: bool = False
    allow_open_cluster: bool = False


def cluster_of(url: str) -> Cluster | None:
    """What a URL names; None for this machine.

    Raises:
        UsageError: it names nothing, or its extra is not installed.
    """
    if url == LOCAL:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
        options = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        )
    except ValueError as error:
        raise UsageError(f"--pool {url!r} is no URL: {error}.") from error
    kind = KINDS.get(parts.scheme)
    if kind is None or not parts.netloc or parts.path.strip("/"):
        raise UsageError(
            f"--pool must be `local`, ray://HOST:PORT or slurm://PARTITION, not {url!r}."
        )
    if "@" in parts.netloc:
        raise UsageError("--pool takes no user or password: it is recorded with the run.")
    for name, value in options.items():
        if name not in kind.options:
            raise UsageError(
                f"--pool {parts.scheme}:// has no option {name!r}; it has: "
                f"{', '.join(sorted(kind.options))}."
            )
        if name in (*_SECONDS, *_COUNTS) and not (value.isdecimal() and int(value)):
            raise UsageError(f"{name}={value} in --pool must be a whole number above 0.")
    if kind.extra == "ray" and port is None:
        raise UsageError(f"--pool {url!r} lacks the port; `ray start --head` takes 6379 by itself.")
    if importlib.util.find_spec(kind.package) is None:
        raise UsageError(
            f"--pool {parts.scheme}:// needs another package: "
            f"pip install 'selftaught[{kind.extra}]'."
        )
    return Cluster(kind=kind, where=parts.netloc, options=options)


def open_pool(
    settings: PoolSettings,
    *,
    on_attempt: Callable[[str, Attempt], None],
    on_event: Callable[[str, str, float], None],
    check: Callable[[], None],
    environment: Mapping[str, str],
) -> AheadPool:
    """Open the pool that the settings name; arguments as of `ClusterPool`.

    Args:
        environment: where Ray's or Slurm's own variables are taken from.

    Raises:
        UsageError: the URL cannot be meant.
        SandboxUnavailable, ClusterUnavailable: nothing can run there.
    """
    cluster = cluster_of(settings.url)
    if cluster is None:
        return LocalPool(
            settings.slots,
            allow_weak_sandbox=settings.allow_weak_sandbox,
            allow_network=settings.allow_network,
            on_attempt=on_attempt,
        )
    # Nothing runs on this machine.
    early.discard()
    address = cluster.options.get("host") or _own_address(cluster)
    options = {name: float(cluster.options[name]) for name in _SECONDS if name in cluster.options}

    def start(invitation: Invitation) -> Starter:
        order = Order(
            invitation=invitation,
            where=cluster.where,
            options=cluster.options,
            slots=settings.slots,
            allow_open_cluster=settings.allow_open_cluster,
        )
        return StartingProcess(
            cluster.kind.module,
            order,
            variables=cluster.kind.variables,
            environment=environment,
            on_ended=lambda node, reason: on_event("agent_ended", f"{node}: {reason}", 0.0),
        )

    return ClusterPool(
        start,
        ClusterSettings(
            bind=address,
            addresses=(address,),
            start_s=options.get("start", cluster.kind.start_s),
            patience_s=options.get("patience", ClusterSettings().patience_s),
            allow_weak_sandbox=settings.allow_weak_sandbox,
            allow_network=settings.allow_network,
        ),
        on_attempt=on_attempt,
        on_event=on_event,
        check=check,
    )


def _own_address(cluster: Cluster) -> str:
    """This machine's address on the cluster's network."""
    if cluster.options.get("executor", "slurm") != "slurm":
        return "127.0.0.1"
    if cluster.kind.extra != "ray":
        return _reachable(socket.getfqdn())
    host, _, port = cluster.where.rpartition(":")
    try:
        family, *_, target = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, socket.SOCK_DGRAM) as towards:
            # Sends nothing: it only finds the way.
            towards.connect(target)
            return str(towards.getsockname()[0])
    except OSError as error:
        raise UsageError(f"There is no way to {host!r} of --pool: {error}.") from error


def _reachable(name: str) -> str:
    """This machine's name, unless it stands for an address that only this machine reaches.

    Debian writes such a line into /etc/hosts; nobody would come, and a queue is waited for long.
    """
    try:
        address = socket.gethostbyname(name)
    except OSError:
        # Whoever listens there says so.
        return name
    if ipaddress.ip_address(address).is_loopback:
        raise UsageError(
            f"The name of this machine, {name}, stands for {address}, which nodes cannot reach. "
            "Name its address on the cluster's network with host=ADDRESS in --pool."
        )
    return name
