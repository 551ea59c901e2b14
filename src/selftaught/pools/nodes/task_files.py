"""A task on its way to another machine: by name where the package ships it, else with its files."""

import tempfile
from pathlib import Path
from typing import Any

from selftaught.errors import TaskError
from selftaught.task import Task

# Of one task's folder; a task holds programs and texts.
MAX_BYTES = 32 * 1024 * 1024
MAX_FILES = 2_000


def packed(task: Task) -> dict[str, Any]:
    """Return a task as data.

    Raises:
        TaskError: its folder is too large to be sent, or cannot be read.
    """
    name, mark, query = task.name.partition("?")
    data: dict[str, Any] = {"name": name, "query": mark + query, "digest": task.digest}
    if task.reference == task.name:
        return data
    folder = Path(task.folder)
    files: dict[str, bytes] = {}
    size = 0
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                size += path.stat().st_size
                if size > MAX_BYTES or len(files) == MAX_FILES:
                    raise TaskError(
                        f"The folder of task {task.name!r} cannot be sent to other machines: it "
                        f"holds more than {MAX_BYTES >> 20} MiB or {MAX_FILES:,} files."
                    )
                files[path.relative_to(folder).as_posix()] = path.read_bytes()
    except OSError as error:
        raise TaskError(f"The folder of task {task.name!r} cannot be read: {error}.") from error
    return {**data, "files": files}


def unpacked(data: dict[str, Any], parent: Path) -> Task:
    """Return the task that data stands for; its files go into a new folder below `parent`.

    Raises:
        TaskError: it is not the same task here as where it comes from.
        SelftaughtError: it is no task.
    """
    reference = str(data["name"])
    if "files" in data:
        folder = Path(tempfile.mkdtemp(dir=parent)) / reference
        for name, content in data["files"].items():
            path = folder / name
            if ".." in path.parts or not path.is_relative_to(folder):
                raise TaskError(f"A task's file cannot be called {name!r}.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        reference = str(folder)
    task = Task.load(reference + str(data["query"]))
    if task.digest != data["digest"]:
        raise TaskError(
            f"Task {task.name!r} is another one there: its files hash to {task.digest} there and "
            f"to {data['digest']} here."
        )
    return task
