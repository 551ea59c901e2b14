"""A Postgres server of the tests' own: Debian's binaries, an own folder, a socket, no network."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 60.0
_ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


def binaries() -> Path | None:
    """Where initdb and postgres are; None where no server is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(os.path.realpath(on_path)).parent if on_path else None


def an_ordinary_user() -> str | None:
    """Who may run the server, where we are root, which it refuses to be."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class PostgresServer:
    """A running server; `new_database` gives an empty database's URL.

    Args:
        where: its folder, made by initdb.
        user: the database's.
        owner: whom the process belongs to; None for us.
    """

    def __init__(self, where: Path, user: str, owner: str | None) -> None:
        self.where = where
        self._user = user
        self._owner = owner
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def start(self) -> None:
        binary = binaries()
        assert binary is not None
        with (self.where / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(binary / "postgres"), "-D", str(self.where / "data")),
                    *("-k", str(self.where), "-c", "listen_addresses="),
                    *("-c", "fsync=off", "-c", "shared_buffers=16MB"),
                ],
                user=self._owner,
                env=_ENVIRONMENT,
                cwd=self.where,
                stdout=log,
                stderr=log,
            )
        _wait(self, self._process, self.where / "log")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends its clients' connections, SIGQUIT is a crash of all of it."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=START_S)

    def url(self, database: str) -> str:
        return f"postgresql://{self._user}@/{database}?host={self.where}"

    def new_database(self) -> str:
        import psycopg

        name = f"test{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return self.url(name)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server in a new folder and end it afterwards."""
    where = binaries()
    assert where is not None
    user = an_ordinary_user()
    # Not below pytest's own folder, which the server's user may not enter. Socket paths are short.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    server = PostgresServer(folder, "tester", user)
    try:
        if user is not None:
            shutil.chown(folder, user)
        subprocess.run(
            [
                *(str(where / "initdb"), "-D", str(folder / "data"), "-A", "trust"),
                *("-U", "tester", "-N", "--encoding=UTF8", "--no-locale"),
            ],
            user=user,
            env=_ENVIRONMENT,
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=START_S,
        )
        server.start()
        yield server
    finally:
        # Terminated, it would wait for every client first.
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            psycopg.connect(server.url("postgres")).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())
