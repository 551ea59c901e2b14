"""From what a user writes after `--store` to an open store."""

from pathlib import Path

from selftaught.errors import StoreError
from selftaught.store.event_store import Store

_POSTGRES = ("postgresql://", "postgres://")


def is_url(name: str) -> bool:
    """Whether a store is named by the URL of a database, not by a path."""
    return name.startswith(_POSTGRES)


def open_store(name: str, *, writable: bool, must_exist: bool = False) -> Store:
    """Open a SQLite file by its path, or a Postgres database by its URL.

    Args:
        name: a path, or `postgresql://…`.
        writable: whether to write; makes what is missing.
        must_exist: refuse to make a file, where a run in it is meant.

    Raises:
        StoreError, UsageError: it cannot be opened, with the reason and what to do about it.
    """
    if is_url(name):
        from selftaught.store.postgres import PostgresStore

        return PostgresStore.open(name, writable=writable)
    if must_exist and not Path(name).is_file():
        raise StoreError(f"There is no store {name!r}; --store names the file a run is in.")
    from selftaught.store.sqlite import SQLiteStore

    return SQLiteStore.open(name, writable=writable)
