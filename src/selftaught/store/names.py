"""A set of hashes for stores of any size: on the disk, so that memory does not grow with it."""

import sqlite3


class Names:
    """A set of hashes that grows on the disk instead of in memory; a context manager."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("CREATE TABLE names (name TEXT PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def add(self, name: str) -> bool:
        """Add a name; whether it is new."""
        cursor = self._database.execute("INSERT OR IGNORE INTO names VALUES (?)", (name,))
        return cursor.rowcount > 0

    def __contains__(self, name: str) -> bool:
        found = self._database.execute("SELECT 1 FROM names WHERE name = ?", (name,))
        return found.fetchone() is not None

    def __enter__(self) -> "Names":
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()
