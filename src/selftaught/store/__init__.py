"""The event store: append-only runs, their events and the texts that the events refer to.

| module | what it holds |
|---|---|
| `event_store` | `Store`, the Protocol that every store fulfils; `RunRow`; `text_hash` |
| `sqlite` | `SQLiteStore`: one file, one writer, any number of readers |
| `connection` | opening the file, and what SQLite's errors mean for the user |
| `migrations` | the schema, as a list of steps that only ever grows |
| `writer_lock` | the lock that keeps a second writer out |
| `record` | events and texts in the form that the database holds |
| `integrity` | what `check` looks at |
| `postgres`, `postgres_schema`, `postgres_check` | the same three in a Postgres database |
| `adding`, `postgres_adding` | runs that were recorded elsewhere, on their way in |
| `run_file`, `moving` | one run as one file, out of a store and into another |
| `upkeep` | a whole store looked over, or saved from damage |
| `sqlite_pages`, `damaged_sqlite`, `damaged_postgres` | rows of a store that cannot be opened |
| `salvage` | what of those rows can be believed, and what each run keeps |
| `names` | a set of hashes that does not fill memory |
| `whole_file`, `room` | files that are there whole or not at all; what is left of the disk |
| `journal` | `Journal`: the sink a run writes to, and what a resumed run looks up |

The schema is public: docs/reference/store.md describes it, with queries to start from.
"""
