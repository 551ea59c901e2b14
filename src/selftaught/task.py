"""Tasks: a utility, an initial solution and a description, as a folder.

The folder (fixed contract): `task.toml`, `solution.py`, `description.md` or `utility.str`,
`utility.py`, `README.md`. See docs/reference/task-folder.md.
"""

import hashlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from selftaught.errors import TaskError, UsageError
from selftaught.permissions import SOURCE_SUFFIXES, Permissions, check_permissions
from selftaught.solution import Solution, check_program
from selftaught.utility import Split

# Instance seeds of different repeats lie this far apart, so that no two repeats of a split share
# an instance and `val` (4321 ...) never meets `test` (5678 ...): their residues differ.
REPEAT_STRIDE = 1000
MAX_INSTANCES = 257

_SHIPPED = Path(__file__).parent / "tasks"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one call of a candidate may use.

    Attributes:
        time_s: CPU seconds of the candidate's process, as seen from outside.
        wall_s: seconds on the clock, a cap behind `time_s`; by default 10 x time_s + 1.
        memory_bytes: address space of all threads together, beyond what the interpreter itself
            holds, and what is written to the private folder, if the task permits one.
        work: loop passes and function calls, a limit that repeats exactly where one by time
            cannot; 0 for none. Not a security boundary: `time_s` stands behind it.
        compile_s: CPU seconds of compiling a candidate; three times as many by the clock.
    """

    time_s: float = 1.0
    wall_s: float | None = None
    memory_bytes: int = 512 * 1024 * 1024
    work: int = 0
    compile_s: float = 20.0

    @property
    def wall_cap_s(self) -> float:
        """The wall cap in force."""
        return self.wall_s if self.wall_s is not None else 10 * self.time_s + 1


class SplitSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first instance's seed of a split and its number of instances."""

    seed: int
    instances: int


class Normalisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The raw values that mean `worst` (what a failure counts as) and `best` (best known, 1.0)."""

    best: float
    worst: float = 0.0


class TaskFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `task.toml`."""

    summary: str
    normalisation: Normalisation
    entry_point: str = "algorithm"
    direction: Literal["maximize", "minimize"] = "maximize"
    modules: tuple[str, ...] = ()
    source: str = ""
    known_flaws: str = ""
    limits: Limits = Limits()
    permissions: Permissions = Permissions()
    splits: dict[str, SplitSpec] = msgspec.field(
        default_factory=lambda: {"val": SplitSpec(4321, 20), "test": SplitSpec(5678, 50)}
    )
    parameters: dict[str, int | float | str | bool] = {}


# Made for its effect: a type that two threads are the first to need crashes msgspec.
msgspec.json.Decoder(TaskFile)


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One optimisation problem, ready to be scored.

    Attributes:
        name: the folder's name, with the parameters that differ from the folder's own.
        folder: where its trusted `utility.py` lies.
        file: the content of `task.toml`, parameters applied.
        initial: the initial solution.
        utility_text: what the language model is shown of the utility (`utility.str`).
        digest: hash over the folder's files but its README, and parameters; stored with every run.
    """

    name: str
    folder: str
    file: TaskFile
    initial: Solution
    utility_text: str
    digest: str

    @property
    def key(self) -> str:
        """Name and digest: what scores are recorded under."""
        return f"{self.name}@{self.digest}"

    @staticmethod
    def load(reference: str, **parameters: int | float | str | bool) -> "Task":
        """Load a shipped task by name or a folder by path.

        Args:
            reference: `three_sat`, `./my_task`, or with parameters `parity_noise?bits=20`.
            parameters: override `[parameters]` of the task.

        Raises:
            UsageError: no such task or parameter.
            TaskError: the folder is broken, with the file and what is wrong in it.
        """
        name, _, query = reference.partition("?")
        overrides = {**dict(_parse_query(query)), **parameters}
        folder = _find(name)
        file = _read_toml(folder)
        for key, value in overrides.items():
            if key not in file.parameters:
                known = ", ".join(sorted(file.parameters)) or "none"
                raise UsageError(f"Task {name!r} has no parameter {key!r}; it has: {known}.")
            overrides[key] = _like(file.parameters[key], value, key)
        changed = {k: v for k, v in overrides.items() if v != file.parameters[k]}
        file = msgspec.structs.replace(file, parameters={**file.parameters, **overrides})
        suffix = "&".join(f"{k}={v}" for k, v in sorted(changed.items()))
        shown = folder.name + (f"?{suffix}" if suffix else "")
        text = _utility_text(folder)
        for key, value in file.parameters.items():
            text = text.replace("{" + key + "}", str(value))
        return Task(
            name=shown,
            folder=str(folder),
            file=file,
            initial=_initial(folder, file),
            utility_text=text,
            digest=_digest(folder, file.parameters),
        )

    @property
    def language(self) -> str:
        """What its candidates are written in: `python`, a compiled language, or `text`."""
        return self.initial.language

    @property
    def reference(self) -> str:
        """What `load` takes to load this very task again, from any working directory."""
        name, mark, query = self.name.partition("?")
        shipped = Path(self.folder).parent == _SHIPPED
        return (name if shipped else self.folder) + mark + query

    def split(self, name: str) -> Split:
        """The split as a utility gets it."""
        return Split(name, self.file.splits[name].instances)

    def instance_seed(self, split: str, repeat: int) -> int:
        """The first instance's seed in a repeat; no two repeats or splits share an instance."""
        return self.file.splits[split].seed + REPEAT_STRIDE * repeat

    @property
    def sign(self) -> float:
        """-1 for a task that minimises: inside selftaught higher is always better."""
        return 1.0 if self.file.direction == "maximize" else -1.0

    @property
    def worst(self) -> float:
        """The value that a failure counts as, higher is better."""
        return self.sign * self.file.normalisation.worst

    def normalise(self, value: float, initial: float) -> float:
        """Map a value to 0 at the initial solution's and 1 at the best known, not below -1.

        Args:
            value: higher is better.
            initial: the initial solution's value on the same instances.
        """
        best = self.sign * self.file.normalisation.best
        if best <= initial:
            # The initial solution is already at the best known value: only a loss can be told.
            return max(-1.0, value - initial)
        return max(-1.0, (value - initial) / (best - initial))


def task_names() -> list[str]:
    """The tasks shipped with the package, sorted."""
    return sorted(p.parent.name for p in _SHIPPED.glob("*/task.toml"))


def _find(name: str) -> Path:
    if not name:
        raise UsageError("A task needs a name or a folder.")
    if (_SHIPPED / name / "task.toml").is_file() and "/" not in name:
        return _SHIPPED / name
    folder = Path(name)
    if (folder / "task.toml").is_file():
        return folder.resolve()
    if folder.is_dir():
        raise TaskError(
            f"The folder {name!r} holds no task.toml; `selftaught new-task DIR` writes one."
        )
    raise UsageError(
        f"There is no task {name!r}. Shipped: {', '.join(task_names())}. "
        "A folder with a task.toml is named by its path."
    )


def _read_toml(folder: Path) -> TaskFile:
    path = folder / "task.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TaskError(f"{path} cannot be read as TOML: {error}.") from error
    permitted = content.get("permissions", {})
    known = [field.name for field in msgspec.structs.fields(Permissions)]
    for key in permitted if isinstance(permitted, dict) else ():
        if key not in known:
            raise TaskError(f"{path}: [permissions] has no {key!r}; it has: {', '.join(known)}.")
    try:
        file = msgspec.convert(content, TaskFile)
    except msgspec.ValidationError as error:
        raise TaskError(f"{path} is not a valid task file: {error}.") from error
    for split in ("val", "test"):
        spec = file.splits.get(split)
        if spec is None:
            raise TaskError(f"{path} lacks [splits.{split}]; a task needs val and test.")
        if not 1 <= spec.instances <= MAX_INSTANCES:
            raise TaskError(
                f"{path}: splits.{split}.instances must be 1 to {MAX_INSTANCES}, "
                f"not {spec.instances}."
            )
    val, test = file.splits["val"], file.splits["test"]
    # Blocks of a split repeat every REPEAT_STRIDE seeds: apart once is apart for ever.
    ahead = (test.seed - val.seed) % REPEAT_STRIDE
    if ahead < val.instances or REPEAT_STRIDE - ahead < test.instances:
        raise TaskError(
            f"{path}: the seeds of val and test must differ by {val.instances} to "
            f"{REPEAT_STRIDE - test.instances} (modulo {REPEAT_STRIDE}), or they share instances."
        )
    if file.normalisation.best == file.normalisation.worst:
        raise TaskError(f"{path}: normalisation.best and .worst must differ.")
    try:
        check_permissions(file.permissions, folder, file.limits.memory_bytes)
    except TaskError as error:
        raise TaskError(f"{path}: {error}") from error
    return file


def _utility_text(folder: Path) -> str:
    for name in ("utility.str", "description.md"):
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8").strip()
    raise TaskError(f"{folder} holds neither utility.str nor description.md: the model sees one.")


def _initial(folder: Path, file: TaskFile) -> Solution:
    compiler = file.permissions.compiler
    wanted = "solution" + (SOURCE_SUFFIXES[compiler] if compiler else ".*")
    found = sorted(folder.glob(wanted))
    if not found:
        name = wanted if compiler else "solution.py"
        raise TaskError(f"{folder} holds no {name}: a task needs an initial solution.")
    if not (folder / "utility.py").is_file():
        raise TaskError(
            f"{folder} holds no utility.py: a task needs a score(solution, split, seed)."
        )
    source = found[0].read_text(encoding="utf-8")
    if compiler is None and found[0].suffix == ".py":
        return check_program(source, file.entry_point, str(found[0]))
    return Solution.admit(source, file.entry_point, language=compiler or "text")


def _digest(folder: Path, parameters: dict[str, Any]) -> str:
    sha = hashlib.sha256()
    # Not the README: what it says changes no score.
    files = (p for p in folder.iterdir() if p.is_file() and p.name != "README.md")
    for path in sorted(files):
        sha.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    sha.update(msgspec.json.encode(sorted(parameters.items())))
    return sha.hexdigest()[:16]


def _parse_query(query: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"A task parameter is written NAME=VALUE, not {part!r}.")
        yield key, value


def _like(default: Any, value: Any, key: str) -> Any:
    """Read a parameter given as text in the type of its default."""
    try:
        if isinstance(default, bool):
            return value if isinstance(value, bool) else {"true": True, "false": False}[value]
        return type(default)(value)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"Parameter {key}={value!r} should be of type {type(default).__name__}."
        ) from error
