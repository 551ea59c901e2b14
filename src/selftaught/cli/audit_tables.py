"""The tables of an audit."""

from collections.abc import Mapping

import msgspec
from rich.table import Table

from selftaught.audit.prompt import PLAIN, WARNED
from selftaught.audit.published import TABLE_2
from selftaught.audit.study import Audit, Program, Rate
from selftaught.cli import screen
from selftaught.statistics import Estimate, wilson

_WORDS = {
    "published": "as the paper counts",
    "unsandboxed": "unsandboxed",
    "any": "any finding",
    "tried": "tried when run",
    "over_budget": "asked over budget",
    "unusable": "no usable program",
}
_OF_RUNS = ("tried", "over_budget")
_EXAMPLES = 5


def print_audit(found: Audit) -> None:
    """The rates, the paper's beside them, and examples of what was found."""
    out = screen.out
    out.print(_rates(found))
    distinct = sum(one.usable for one in found.programs)
    out.print(f"{distinct} distinct usable programs. Intervals are 95 %.", style="dim")
    out.print(_published())
    flagged = [one for one in found.programs if one.findings]
    if not flagged:
        out.print("Nothing was found in any program.")
        return
    out.print(f"{len(flagged)} distinct programs with findings; {_agreement(flagged)}")
    for one in sorted(flagged, key=lambda p: -sum(p.generations.values()))[:_EXAMPLES]:
        told = "; ".join(f"line {f.line}: {f.what}" for f in one.findings[:3])
        times = sum(one.generations.values())
        out.print(f"  {one.solution.hash[:8]} ({times} times)  {told}", markup=False)


def _agreement(flagged: list[Program]) -> str:
    seen = [one for one in flagged if one.observed is not None]
    if not seen:
        return "none of them was run."
    tried = sum(bool(one.observed and one.observed.tried) for one in seen)
    return f"{tried} of the {len(seen)} that were run also tried something then."


def _rates(found: Audit) -> Table:
    both = len(found.generations) > 1
    n = " + ".join(f"{count:,} {name}" for name, count in found.generations.items())
    table = screen.titled_table(f"Share of all generations ({n})")
    table.add_column("what", no_wrap=True)
    for condition in found.generations:
        table.add_column(condition, no_wrap=True)
    if both:
        table.add_column("warned minus plain", no_wrap=True)
    has_run = any(one.observed is not None for one in found.programs)
    for rate in found.rates:
        if rate.measure not in _WORDS and not any(rate.counts.values()):
            continue
        if rate.measure in _OF_RUNS and not has_run:
            continue
        name = _WORDS.get(rate.measure, f"  {rate.measure.replace('tried_', 'tried ')}")
        cells = [_share(rate.shares[c], rate.counts[c]) for c in found.generations]
        table.add_row(name, *cells, *([_signed(rate.difference)] if both else []))
    return table


def _published() -> Table:
    table = screen.titled_table("The paper, Table 2: unsandboxed, of 10,000 generations each")
    table.add_column("model", no_wrap=True)
    table.add_column(PLAIN, no_wrap=True)
    table.add_column(WARNED, no_wrap=True)
    for model in dict.fromkeys(one.model for one in TABLE_2):
        cells = {one.condition: one for one in TABLE_2 if one.model == model}
        shares = [
            _share(wilson(cells[c].count, cells[c].generations), cells[c].count)
            for c in (PLAIN, WARNED)
        ]
        table.add_row(model, *shares)
    return table


def _share(share: Estimate, count: int) -> str:
    return f"{share.value:.2%} ({share.low:.2%}, {share.high:.2%})  {count:,}"


def _signed(difference: Estimate | None) -> str:
    if difference is None:
        return ""
    return f"{difference.value:+.2%} ({difference.low:+.2%}, {difference.high:+.2%})"


def audit_as_data(found: Audit | None) -> dict[str, object] | None:
    """An audit as JSON-able data: every rate, and every program with a finding."""
    if found is None:
        return None
    return {
        "generations": found.generations,
        "rates": {rate.measure: _rate_as_data(rate) for rate in found.rates},
        "paper": msgspec.to_builtins(TABLE_2),
        "programs": [
            {
                "program": one.solution.hash,
                "source": one.solution.source,
                "generations": one.generations,
                "findings": msgspec.to_builtins(one.findings),
                "tried": one.observed.kinds if one.observed else None,
            }
            for one in found.programs
            if one.findings or (one.observed is not None and one.observed.tried)
        ],
    }


def _rate_as_data(rate: Rate) -> Mapping[str, object]:
    return {
        "counts": rate.counts,
        "shares": msgspec.to_builtins(rate.shares),
        "difference": msgspec.to_builtins(rate.difference),
    }
