"""Which recording a run repeats: `replay/RUN`, `replay/FILE.db:RUN` or `replay/FILE.jsonl`."""

import os

import msgspec

from selftaught.errors import UsageError
from selftaught.models.recording import Recording, read_recording, recording_of
from selftaught.models.replay import ReplayModel
from selftaught.models.resolve import REPLAY
from selftaught.runs.config import RunConfig
from selftaught.store.event_store import Store
from selftaught.store.opening import open_store


def with_replay(config: RunConfig, store: Store) -> tuple[RunConfig, ReplayModel | None]:
    """Return the model that `config.model` names as a replay, and the configuration to record.

    The name is recorded in full: `latest` will mean another run tomorrow. Of a configuration that
    names another kind of model, nothing is changed and no model is returned.

    Args:
        config: of the run that is to repeat another.
        store: the run's own; read where the recorded run is in it.

    Raises:
        UsageError: no such run or file, or a setting that a replay has no use for.
        ModelError: the recording is empty or damaged.
    """
    if not config.model.startswith(REPLAY):
        return config, None
    if config.base_url is not None:
        raise UsageError(
            "A base URL has no meaning for a replay, which asks no server. Leave it out."
        )
    if config.cache:
        raise UsageError("A replay is answered from its recording alone: leave --cache out.")
    reference, recording = _recording(config.model.removeprefix(REPLAY), store)
    seed = recording.header.config.get("seed")
    if seed != config.seed:
        # Nothing that is sent to a model shows the seed: all would fit, and be of another run.
        raise UsageError(
            f"The recorded run {recording.header.run} has seed {seed}, not {config.seed}; "
            "its answers belong to that seed."
        )
    config = msgspec.structs.replace(
        config, model=REPLAY + reference, replay_of=recording.header.model
    )
    model = ReplayModel(recording, name=config.model, config=msgspec.to_builtins(config))
    return config, model


def _recording(reference: str, store: Store) -> tuple[str, Recording]:
    if reference.endswith(".jsonl"):
        return os.path.abspath(reference), read_recording(reference)
    file, _, run = reference.rpartition(":")
    if not run:
        raise UsageError(
            f"{REPLAY}{reference} names no run: {REPLAY}RUN, {REPLAY}FILE.db:RUN or "
            f"{REPLAY}FILE.jsonl."
        )
    if not file:
        run = store.resolve(run)
        return run, recording_of(store, run)
    if "://" not in file:
        file = os.path.abspath(file)
    if file == store.path or os.path.realpath(file) == os.path.realpath(store.path):
        return _recording(run, store)
    with open_store(file, writable=False, must_exist=True) as other:
        run = other.resolve(run)
        return f"{file}:{run}", recording_of(other, run)
