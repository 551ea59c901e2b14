"""Writing a table as CSV, Parquet or LaTeX."""

import csv
import io
import re
from pathlib import Path

from selftaught.errors import UsageError
from selftaught.report.tables import Cell, Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def csv_bytes(table: Table) -> bytes:
    """The table as CSV (RFC 4180) in UTF-8, numbers in full; an empty cell is no value.

    A text that a spreadsheet would take for a formula gets an apostrophe in front of it: reasons
    and names may come from generated programs.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(table.columns)
    writer.writerows([[_inert(cell) for cell in row] for row in table.rows])
    return out.getvalue().encode()


def latex_bytes(table: Table) -> bytes:
    """The table as a LaTeX `tabular` with the rules of `booktabs`, numbers to three places."""
    align = "".join("r" if _is_numeric(table, i) else "l" for i in range(len(table.columns)))
    lines = [
        f"% {_escaped(table.title)}",
        f"\\begin{{tabular}}{{{align}}}",
        "\\toprule",
        " & ".join(_escaped(column.replace("_", " ")) for column in table.columns) + r" \\",
        "\\midrule",
        *(" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
        "",
    ]
    return "\n".join(lines).encode()


def parquet_bytes(table: Table) -> bytes:
    """The table as Parquet.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            "Parquet needs pyarrow: pip install 'selftaught[parquet]'; FILE.csv needs nothing."
        ) from error
    columns = {name: [row[i] for row in table.rows] for i, name in enumerate(table.columns)}
    out = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), out)
    return bytes(out.getvalue())


WRITERS = {".csv": csv_bytes, ".parquet": parquet_bytes, ".tex": latex_bytes}


def table_bytes(table: Table, file: str) -> bytes:
    """The table in the format that the end of a file's name asks for."""
    return WRITERS[Path(file).suffix](table)


def _inert(cell: Cell) -> Cell:
    if isinstance(cell, str) and re.match(r"[=+\-@\t\r]", cell):
        return f"'{cell}"
    return cell


def _is_numeric(table: Table, place: int) -> bool:
    return all(row[place] is None or type(row[place]) in (int, float) for row in table.rows)


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_cell(cell: Cell) -> str:
    if cell is None:
        return "--"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"${cell:.3f}$"
    return _escaped(str(cell))
