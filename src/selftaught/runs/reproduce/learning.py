"""STOP on learning parity with noise: several runs, several models, with and without the text."""

from collections.abc import Mapping, Sequence

from selftaught.improver import load_improver
from selftaught.runs.config import RunConfig
from selftaught.runs.reproduce.recipe import (
    LPN,
    Part,
    Recipe,
    Report,
    Setting,
    Sheet,
    as_numbers,
    interval,
    mean_and_error,
    raw_values,
)
from selftaught.runs.result import Run
from selftaught.statistics import wilson
from selftaught.task import Task

_FAMILY = "lpn"
_WITHHELD = "lpn without text"
_GAIN = 0.03
_PAPER_BY_ROUND = "a figure only"

CAVEATS = (
    (
        "The paper prints no number for a round: it has a figure, in which GPT-4 rises over "
        "T = 1 to 3 (5 runs) and GPT-3.5 and Mixtral fall (25 runs each)."
    ),
    (
        "Here an improver is judged on test instances that nothing in the run reads, after it was "
        "applied with fresh luck; a failure counts as 0, as in the paper."
    ),
    (
        "Learning parity with noise is saturated for models of 2026: one answer often solves it, "
        "and no improver can be seen to improve then."
    ),
    "Work and memory of programs are limited by the sandbox, not by one machine's clock alone.",
)


def stop_config(setting: Setting, family: str, run: int, **settings: object) -> RunConfig:
    """One run of STOP on learning parity with noise; run i has the setting's seed plus i."""
    return setting.config(
        family,
        command="run",
        tasks=(LPN,),
        improvers=(("seed", load_improver("seed").source),),
        **{"seed": setting.seed + run, **settings},
    )


def sealed_by_round(run: Run) -> list[float]:
    """Mean utility on sealed instances of the improver in force after each round, from round 0."""
    task = Task.load(LPN)
    values = [raw_values(one.sealed, task) for one in run.rounds]
    return [sum(some) / len(some) for some in values]


def _lpn_parts(setting: Setting) -> list[Part]:
    return [
        Part(name=f"run {i}", config=stop_config(setting, _FAMILY, i))
        for i in range(setting.scale.runs)
    ]


def _lpn_report(setting: Setting, runs: Mapping[str, Run]) -> Report:
    by_run = [sealed_by_round(run) for run in runs.values()]
    by_round = list(zip(*by_run, strict=True))
    rows = tuple(
        (str(t), _PAPER_BY_ROUND if t else "-", mean_and_error(values), interval(values))
        for t, values in enumerate(by_round)
    )
    gains = [values[-1] - values[0] for values in by_run]
    changed = sum(
        run.rounds[-1].improver.hash != run.rounds[0].improver.hash for run in runs.values()
    )
    return Report(
        sheets=(
            Sheet(
                title=f"Sealed utility by round: share of test parities right, {len(by_run)} runs",
                header=("t", "paper", "ours, ± standard error", "95 %"),
                rows=rows,
            ),
        ),
        numbers={"by_round": [as_numbers(values) for values in by_round]},
        remarks=(
            f"Last round minus seed: {mean_and_error(gains)} {interval(gains, signed=True)}.",
            f"{changed} of {len(by_run)} runs ended with another improver than the seed.",
        ),
    )


LEARNING = Recipe(
    name="lpn",
    place="figure 4",
    summary="STOP on learning parity with noise: T rounds, several runs, mean of each round.",
    caveats=CAVEATS,
    parts=_lpn_parts,
    report=_lpn_report,
)


def _text_parts(setting: Setting) -> list[Part]:
    withheld = [
        Part(
            name=f"withheld {i}",
            config=stop_config(setting, _WITHHELD, i, utility_text="withheld"),
        )
        for i in range(setting.scale.runs)
    ]
    return [*_lpn_parts(setting), *withheld]


def _text_report(setting: Setting, runs: Mapping[str, Run]) -> Report:
    n = setting.scale.runs
    shown = [sealed_by_round(runs[f"run {i}"]) for i in range(n)]
    withheld = [sealed_by_round(runs[f"withheld {i}"]) for i in range(n)]
    rows, numbers = [], []
    for t in range(len(shown[0])):
        told = [values[t] for values in shown]
        untold = [values[t] for values in withheld]
        differences = [b - a for a, b in zip(told, untold, strict=True)]
        rows.append(
            (
                str(t),
                mean_and_error(told),
                mean_and_error(untold),
                f"{mean_and_error(differences)} {interval(differences, signed=True)}",
            )
        )
        numbers.append({"shown": as_numbers(told), "withheld": as_numbers(untold)})
    return Report(
        sheets=(
            Sheet(
                title=f"Sealed utility by round, {n} runs each, paired by seed",
                header=("t", "text shown", "text withheld", "withheld minus shown, 95 %"),
                rows=tuple(rows),
            ),
        ),
        numbers={"by_round": numbers},
    )


WITHHELD = Recipe(
    name="no_utility_text",
    place="section 3: the utility's text that the model is shown",
    summary="STOP as in lpn, but the model is not told what the meta-utility measures.",
    caveats=(
        "The text of the meta-utility is withheld; the text of the task is shown as before.",
        (
            "No figure of the paper is printed beside these: it has none for this setting that "
            "could be checked."
        ),
        *CAVEATS[1:],
    ),
    parts=_text_parts,
    report=_text_report,
)


def _models(setting: Setting) -> Sequence[str]:
    return setting.models or (setting.model,)


def _model_parts(setting: Setting) -> list[Part]:
    return [
        Part(name=f"{model} {i}", config=stop_config(setting, _FAMILY, i, model=model))
        for model in _models(setting)
        for i in range(setting.scale.small_model_runs)
    ]


def _model_report(setting: Setting, runs: Mapping[str, Run]) -> Report:
    n = setting.scale.small_model_runs
    rows, numbers = [], {}
    for model in _models(setting):
        by_run = [sealed_by_round(runs[f"{model} {i}"]) for i in range(n)]
        gains = [values[-1] - values[0] for values in by_run]
        gained = sum(gain >= _GAIN for gain in gains)
        share = wilson(gained, n)
        rows.append(
            (
                model,
                mean_and_error([values[0] for values in by_run]),
                mean_and_error([values[-1] for values in by_run]),
                f"{mean_and_error(gains)} {interval(gains, signed=True)}",
                f"{gained} of {n} ({share.low:.0%}, {share.high:.0%})",
            )
        )
        numbers[model] = [as_numbers(values) for values in zip(*by_run, strict=True)]
    share = wilson(3, 25)
    return Report(
        sheets=(
            Sheet(
                title=f"Sealed utility of the seed and after {setting.scale.rounds} rounds",
                header=("model", "seed", "last round", "gain, 95 %", "gained 3 points"),
                rows=tuple(rows),
            ),
            Sheet(
                title="The paper",
                header=("model", "runs", "gain", "gained 3 points"),
                rows=(
                    ("GPT-4", "5", "rises over T = 1 to 3", "-"),
                    ("GPT-3.5", "25", "falls", f"3 of 25 ({share.low:.0%}, {share.high:.0%})"),
                    ("Mixtral", "25", "falls, more gradually", "-"),
                ),
            ),
        ),
        numbers={"by_model": numbers},
    )


SMALLER = Recipe(
    name="smaller_models",
    place="figure 4: GPT-3.5 and Mixtral",
    summary="STOP as in lpn with each of --models, such as a small open model that you serve.",
    caveats=CAVEATS,
    parts=_model_parts,
    report=_model_report,
)
