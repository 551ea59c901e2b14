"""The report as one HTML file that asks no server for anything.

Programs, reasons and names may come from a generated program. The template escapes everything but
the figures, which escape what they show themselves, and the page's own policy forbids scripts.
"""

import time
from importlib.resources import files

import msgspec

from selftaught.report.content import Report
from selftaught.report.tables import Cell, Table

NOTHING = "–"
_P_VALUES = ("p", "p_holm")
_PARTS = ("error", "low", "high")
_PAGE = files("selftaught.report") / "page"


def html_text(report: Report) -> str:
    """Return the page."""
    # Imported late: only who writes a page waits for it.
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["change"] = _change
    template = environment.from_string((_PAGE / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        report=report,
        columns=columns,
        css=(_PAGE / "report.css").read_text(encoding="utf-8"),
        started=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(report.row.created_at)),
    )


class Column(msgspec.Struct, frozen=True):
    """One column as the page prints it; `is_number` ones stand at the right."""

    heading: str
    cells: tuple[str, ...]
    is_number: bool


def columns(table: Table) -> list[Column]:
    """A table as a reader wants it: a value, its error or interval in one column.

    So NAME and NAME_error become one, and NAME, NAME_low and NAME_high (after `mean`: low, high).
    """
    by_name = {name: [row[i] for row in table.rows] for i, name in enumerate(table.columns)}
    found = []
    for name, cells in by_name.items():
        stem, _, end = name.rpartition("_")
        if name == "hash":
            # A page names the programs once, among its facts.
            continue
        if end in _PARTS and (stem in by_name or (not stem and "mean" in by_name)):
            continue
        prefix = "" if name == "mean" else f"{name}_"
        texts = [f"{cell:.2g}" if name in _P_VALUES else shown(cell) for cell in cells]
        if f"{prefix}error" in by_name:
            texts = _joined(texts, " ± {}", by_name[f"{prefix}error"])
        if f"{prefix}low" in by_name:
            texts = _joined(texts, " ({}, {})", by_name[f"{prefix}low"], by_name[f"{prefix}high"])
        if any(text != NOTHING for text in texts):
            found.append(Column(name.replace("_", " "), tuple(texts), _is_number(cells)))
    return found


def _joined(texts: list[str], form: str, *parts: list[Cell]) -> list[str]:
    return [
        text if text == NOTHING else text + form.format(*map(shown, part))
        for text, part in zip(texts, zip(*parts, strict=True), strict=True)
    ]


def _is_number(cells: list[Cell]) -> bool:
    return all(cell is None or type(cell) in (int, float) for cell in cells)


def shown(cell: Cell) -> str:
    """A cell as a reader wants it: three places, a word for a truth value, a dash for nothing."""
    match cell:
        case None:
            return NOTHING
        case bool():
            return "yes" if cell else "no"
        case float():
            # Adding 0 makes a minus zero that rounding left a plain one.
            return f"{round(cell, 3) + 0.0:.3f}"
        case int():
            return f"{cell:,}"
        case str():
            return cell[:8] if _is_hash(cell) else cell


def _is_hash(text: str) -> bool:
    return len(text) == 16 and set(text) <= set("0123456789abcdef")


def _change(line: str) -> str:
    return {"+": "added", "-": "removed", "@": "place"}.get(line[:1], "same")
