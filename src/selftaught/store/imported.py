"""What an imported run asks of the machine that resumes it, which only its user can agree to."""

from collections.abc import Iterator, Mapping

# The pool of this machine, in a configuration.
LOCAL = "local"
_MARK = "imported"


def marked_as_imported(config: Mapping[str, object]) -> dict[str, object]:
    """The configuration of a run that came in a file, as it is stored."""
    return {**config, _MARK: True}


def as_exported(config: Mapping[str, object]) -> dict[str, object]:
    """The same as it stands in a file: whether it came in one is not a matter of the run."""
    return {name: value for name, value in config.items() if name != _MARK}


def reached_by(config: Mapping[str, object]) -> Iterator[str]:
    """What of this machine, and from it, a resume would reach as a configuration says."""
    if config.get("base_url"):
        yield f"It asks its model at {config['base_url']}, with your key."
    if config.get("pool", LOCAL) != LOCAL:
        yield f"Its jobs go to {config['pool']}."
    if config.get("allow_weak_sandbox"):
        yield "Its programs run where layers of the sandbox are missing, too."
    if config.get("allow_network"):
        yield "Its programs reach the network where their task permits it."
    names = [config.get("tasks"), config.get("held_out")]
    tasks = [one for some in names if isinstance(some, (list, tuple)) for one in some]
    folders = [one for one in tasks if isinstance(one, str) and "/" in one]
    if folders:
        yield f"Its tasks are run, as trusted code, from {', '.join(folders)}."
