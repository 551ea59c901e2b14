"""Tables of frozen improvers: the transfer of Table 1, Table 2, and the baselines on parity."""

from collections.abc import Mapping

import msgspec

from selftaught.audit.prompt import PLAIN, WARNED, flagged_seed
from selftaught.audit.published import TABLE_2
from selftaught.audit.study import AuditSettings
from selftaught.budget import Budget
from selftaught.improver import load_improver
from selftaught.meta_utility import Measured
from selftaught.runs.config import RunConfig
from selftaught.runs.reproduce.learning import stop_config
from selftaught.runs.reproduce.recipe import (
    LPN,
    Part,
    Recipe,
    Report,
    Setting,
    Sheet,
    as_numbers,
    error_free_values,
    interval,
    mean_and_error,
    raw_values,
)
from selftaught.runs.result import Run
from selftaught.statistics import Estimate, wilson
from selftaught.task import Task
from selftaught.utility import Scored

TABLE_1 = {
    "str_grid_dist": (43.9, 44.3, 56.7),
    "modified_quadratic_assignment": (20.4, 20.6, 22.1),
    "three_sat": (0.0, 21.2, 75.1),
    "maxcut": (0.0, 58.7, 74.2),
    "parity_noiseless": (50.0, 59.3, 81.7),
}
"""The paper's Table 1, in percent: initial program, by the seed improver, by the improved one."""

BASELINES = {"chain_of_thought": "57.7 ± 3.0 %", "greedy": "64.2 ± 0.9 %"}
"""The paper's baselines on learning parity with noise."""

_AUDIT_BUDGET = Budget(calls=2, responses=2, utility_calls=5)


def _transfer_parts(setting: Setting) -> list[Part]:
    config = setting.config(
        "table1",
        command="transfer",
        tasks=(LPN,),
        held_out=tuple(TABLE_1),
        improvers=(("seed", load_improver("seed").source),),
        budget=setting.scale.table_budget,
        repeats=setting.scale.table_repeats,
        sealed_repeats=setting.scale.table_repeats,
    )
    return [
        Part(name="training", config=stop_config(setting, "lpn", 0)),
        Part(name="transfer", config=config, complete=_with_improved),
    ]


def _with_improved(config: RunConfig, runs: Mapping[str, Run]) -> RunConfig:
    improved = ("improved", runs["training"].rounds[-1].improver.source)
    return msgspec.structs.replace(config, improvers=(*config.improvers, improved))


def _measured(run: Run) -> dict[str, Measured]:
    return {row.name: row.measured for row in run.rows}


def _transfer_report(setting: Setting, runs: Mapping[str, Run]) -> Report:
    by_name = _measured(runs["transfer"])
    rows, numbers = [], {}
    for name, paper in TABLE_1.items():
        task = Task.load(name)
        values = {who: raw_values(measured, task) for who, measured in by_name.items()}
        gains = [b - a for a, b in zip(values["seed"], values["improved"], strict=True)]
        rows.append(
            (
                name.replace("_", " "),
                " → ".join(f"{x:.1f}" for x in paper),
                *(mean_and_error(values[who], "") for who in ("identity", "seed", "improved")),
                interval(gains, signed=True),
                mean_and_error(values["best_of_n"], ""),
            )
        )
        numbers[name] = {who: as_numbers(some) for who, some in values.items()}
        numbers[name]["improved minus seed"] = as_numbers(gains)
    rounds = runs["training"].rounds
    is_seed = rounds[-1].improver.hash == rounds[0].improver.hash
    remark = (
        "The training run ended with the seed improver itself, so both columns are one program."
        if is_seed
        else "The improved improver is that of the last round of `lpn`, run 0."
    )
    return Report(
        sheets=(
            Sheet(
                title="Percent, sealed instances, ± standard error; paper: u(s) → seed → improved",
                header=(
                    "task",
                    "paper",
                    "u(s)",
                    "seed",
                    "improved",
                    "minus seed, 95 %",
                    "best of n",
                ),
                rows=tuple(rows),
            ),
        ),
        numbers={"by_task": numbers},
        remarks=(remark, *(_habits(who, by_name[who]) for who in ("seed", "improved"))),
    )


def _habits(who: str, measured: Measured) -> str:
    n = len(measured.items)
    failed = sum(not isinstance(item.outcome, Scored) for item in measured.items)
    same = sum(item.unchanged for item in measured.items)
    return f"{who}: failed in {failed} of {n} places, returned its input in {same}."


TRANSFER = Recipe(
    name="table1",
    place="table 1",
    summary="The improver that STOP made on parity with noise, applied unchanged to five tasks.",
    caveats=(
        (
            "The paper shows one improver, of T = 4, without intervals; the intervals here are "
            "over repeats of one improver too, and say nothing of other runs of STOP."
        ),
        (
            "Quadratic assignment is scored without the wall time that the public scorer adds, and "
            "maxcut as a share of all edge weight, so their figures are not on the paper's scale."
        ),
        "The paper's initial programs of 3SAT and maxcut score 0; those here mostly end in time.",
        "best of n has the same budget as the improvers and is no part of the paper's table.",
        "A failure counts as the task's worst value.",
    ),
    parts=_transfer_parts,
    report=_transfer_report,
)


def _audit_parts(setting: Setting) -> list[Part]:
    config = setting.config(
        "table2",
        command="audit",
        tasks=(LPN,),
        improvers=(("seed", flagged_seed()),),
        budget=_AUDIT_BUDGET,
        audit=AuditSettings(generations=setting.scale.generations),
    )
    return [Part(name="audit", config=config)]


def _audit_report(setting: Setting, runs: Mapping[str, Run]) -> Report:
    audit = runs["audit"].audit
    assert audit is not None  # a run that is done has one
    shown = {"published": "the paper's search of the text", "unsandboxed": "read as a program"}
    rates = {rate.measure: rate for rate in audit.rates}
    rows = [
        (f"ours, {words}", *(_share(rates[name].shares[c]) for c in (PLAIN, WARNED)))
        for name, words in shown.items()
    ]
    for model in dict.fromkeys(one.model for one in TABLE_2):
        cells = {one.condition: one for one in TABLE_2 if one.model == model}
        shares = [wilson(cells[c].count, cells[c].generations) for c in (PLAIN, WARNED)]
        rows.append((f"paper, {model}", *map(_share, shares)))
    difference = rates["unsandboxed"].difference
    assert difference is not None  # both conditions were asked for
    return Report(
        sheets=(
            Sheet(
                title=f"Unsandboxed improvers, of {audit.generations[PLAIN]:,} each",
                header=("who", "without a warning", "with one"),
                rows=tuple(rows),
            ),
        ),
        numbers={"rates": msgspec.to_builtins(rates)},
        remarks=(
            (
                f"Warned minus plain: {difference.value:+.2%} "
                f"({difference.low:+.2%}, {difference.high:+.2%})."
            ),
            "`selftaught audit` shows the other findings too, and examples.",
        ),
    )


def _share(share: Estimate) -> str:
    return f"{share.value:.2%} ({share.low:.2%}, {share.high:.2%})"


UNSANDBOXING = Recipe(
    name="table2",
    place="table 2",
    summary="How often improvements of the seed improver turn their sandbox off: `audit`.",
    caveats=(
        "The flag is shown and switches nothing: everything runs in the sandbox.",
        (
            "Texts and warning are worded anew, and the paper searched texts where this also reads "
            "programs; the first line is the one to compare."
        ),
    ),
    parts=_audit_parts,
    report=_audit_report,
)


def _baseline_parts(setting: Setting) -> list[Part]:
    names = ("seed", "chain_of_thought")
    config = setting.config(
        "baselines",
        command="transfer",
        tasks=(),
        held_out=(LPN,),
        improvers=tuple((name, load_improver(name).source) for name in names),
        budget=setting.scale.table_budget,
        repeats=setting.scale.table_repeats,
        sealed_repeats=setting.scale.table_repeats,
    )
    return [Part(name="baselines", config=config)]


def _baseline_report(setting: Setting, runs: Mapping[str, Run]) -> Report:
    task = Task.load(LPN)
    rows, numbers = [], {}
    for name, measured in _measured(runs["baselines"]).items():
        values = raw_values(measured, task)
        rows.append(
            (
                name,
                BASELINES.get(name, "-"),
                mean_and_error(values),
                interval(values),
                mean_and_error(error_free_values(measured, task)),
            )
        )
        numbers[name] = as_numbers(values)
    return Report(
        sheets=(
            Sheet(
                title="Learning parity with noise: share of test parities right",
                header=("improver", "paper", "ours, ± standard error", "95 %", "error-free only"),
                rows=tuple(rows),
            ),
        ),
        numbers={"by_improver": numbers},
    )


_BASELINE_CAVEATS = (
    "Both baselines come from one run, at one budget, with others beside them.",
    "The paper's figure of chain of thought is of error-free programs only.",
    "The prompts of the shipped improvers are this project's.",
)
CHAIN_OF_THOUGHT = Recipe(
    name="chain_of_thought",
    place="baselines beside figure 4",
    summary="Answers that reason first, without iteration.",
    caveats=_BASELINE_CAVEATS,
    parts=_baseline_parts,
    report=_baseline_report,
)
GREEDY = Recipe(
    name="greedy",
    place="baselines beside figure 4",
    summary="The greedy iterative improver, written by hand.",
    caveats=_BASELINE_CAVEATS,
    parts=_baseline_parts,
    report=_baseline_report,
)
