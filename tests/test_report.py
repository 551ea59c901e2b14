"""Reports: the page, its figures, the tables as files, the run read back, the tracker."""

import csv
import io
import itertools
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from selftaught.budget import Budget
from selftaught.cli import app
from selftaught.errors import SelftaughtError, UsageError
from selftaught.events import RunStarted
from selftaught.improver import load_improver
from selftaught.report.content import gather
from selftaught.report.figures import Point, Series, interval_chart, line_chart, ticks
from selftaught.report.html import columns, html_text
from selftaught.report.mlflow import RUN_TAG, export_to_mlflow
from selftaught.report.table_files import csv_bytes, latex_bytes, parquet_bytes
from selftaught.report.tables import Table, tables_of
from selftaught.runs.config import RunConfig
from selftaught.runs.launch import start
from selftaught.runs.recall import recall
from selftaught.runs.result import Run
from selftaught.store.sqlite import SQLiteStore

SMALL = Budget(calls=2, responses=3, utility_calls=7)
NAMED = tuple((name, load_improver(name).source) for name in ("seed", "greedy", "identity"))
CONFIGS = {
    "run": RunConfig(
        command="run",
        tasks=("sorting_network",),
        held_out=("str_grid_dist",),
        improvers=NAMED[:1],
        rounds=2,
        repeats=1,
        sealed_repeats=2,
        budget=SMALL,
        meta_budget=SMALL,
        accept="better",
    ),
    "improve": RunConfig(
        command="improve", tasks=("sorting_network",), improvers=NAMED, budget=SMALL
    ),
    "compare": RunConfig(
        command="compare",
        tasks=(),
        held_out=("sorting_network",),
        improvers=NAMED,
        seeds=3,
        repeats=1,
        sealed_repeats=1,
        budget=SMALL,
    ),
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Run]]:
    store = str(tmp_path_factory.mktemp("report") / "runs.db")
    return store, {
        name: start(config, store, command_line=f"selftaught {name}")
        for name, config in CONFIGS.items()
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_read_back_is_the_run(recorded: tuple[str, dict[str, Run]], name: str) -> None:
    store, runs = recorded
    with SQLiteStore.open(store, writable=False) as opened:
        before = opened.runs()
        again = recall(opened, runs[name].id)
        assert opened.runs() == before, "reading back recorded something"
    was = msgspec.structs.replace(runs[name], spent={})
    assert msgspec.json.encode(again) == msgspec.json.encode(was)


def test_of_a_run_that_ended_early_what_is_complete_is_read_back(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")
    stop = threading.Event()
    from selftaught.runs.result import Watch

    watch = Watch(on_seed=lambda config, seed: stop.set() if seed.number == 1 else None)
    with pytest.raises(SelftaughtError):
        start(CONFIGS["compare"], store, watch=watch, stop=stop)
    with SQLiteStore.open(store, writable=False) as opened:
        report = gather(opened, "latest")
        found = recall(opened, report.row.id)
    assert found.comparison is not None
    assert found.comparison.seeds == 2
    assert report.row.status == "interrupted"


def test_trials_are_a_table_of_their_own(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")
    config = msgspec.structs.replace(
        CONFIGS["run"], rounds=1, held_out=(), accept="significant", accept_repeats=5
    )
    run = start(config, store)
    with SQLiteStore.open(store, writable=False) as opened:
        tables = tables_of(recall(opened, run.id), opened)
    trials = [one.trial for one in run.rounds if one.trial is not None]
    assert [row[:2] for row in tables["trials"].rows] == [
        (1, len(trial.differences)) for trial in trials
    ]
    assert len(trials) == 1


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_page_needs_no_network_and_holds_no_script(
    recorded: tuple[str, dict[str, Run]], name: str
) -> None:
    store, runs = recorded
    with SQLiteStore.open(store, writable=False) as opened:
        text = html_text(gather(opened, runs[name].id))
    page = _Page(text)
    assert page.references == []
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import", text)
    assert "svg" in page.tags
    assert f"selftaught {name}" in text
    assert runs[name].config.improvers[0][0] in text


def test_the_numbers_on_the_page_are_those_of_the_run(
    recorded: tuple[str, dict[str, Run]],
) -> None:
    store, runs = recorded
    with SQLiteStore.open(store, writable=False) as opened:
        text = html_text(gather(opened, runs["compare"].id))
    comparison = runs["compare"].comparison
    assert comparison is not None
    for one in comparison.differences:
        assert one.sentence in text
        low, high = (f"{round(b, 3) + 0.0:.3f}" for b in (one.mean.low, one.mean.high))
        assert f"({low}, {high})" in text


def test_hostile_texts_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    hostile = "</style><script>alert(1)</script>"
    config = msgspec.structs.replace(CONFIGS["run"], model=hostile)
    with SQLiteStore.open(str(tmp_path / "runs.db"), writable=True) as store:
        run = store.new_run(msgspec.to_builtins(config), f"selftaught run {hostile}")
        store.append(run, RunStarted(config=msgspec.to_builtins(config)))
        text = html_text(gather(store, run))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "before it had a result" in text


def test_figures_escape_names() -> None:
    svg = line_chart(
        [Series("<b>&", (Point(0, 0.0), Point(1, 1.0)))], x_label="<x>", y_label="y & z"
    )
    assert "<b>" not in svg
    assert "&lt;b&gt;&amp;" in svg
    assert "<x>" not in svg


@given(
    st.floats(-1e6, 1e6),
    st.floats(0, 1e6),
    st.booleans(),
)
def test_ticks_cover_the_range(low: float, width: float, whole: bool) -> None:
    found = ticks(low, low + width, whole=whole)
    slack = 1e-6 * max(1.0, abs(low), width)
    assert found[0] <= low + slack
    assert found[-1] >= low + width - slack
    assert 2 <= len(found) <= 9
    assert found == sorted(set(found))
    if whole:
        assert all(t == int(t) for t in found)


def test_labels_of_lines_that_end_together_are_apart() -> None:
    series = [Series(f"line{i}", (Point(0, 0.0), Point(1, 0.5))) for i in range(6)]
    svg = line_chart(series, x_label="x", y_label="y")
    heights = sorted(float(y) for y in re.findall(r'<text x="[\d.]+" y="([\d.]+)" fill="#', svg))
    assert len(heights) == 6
    assert all(b - a >= 14.9 for a, b in itertools.pairwise(heights))


def test_an_interval_without_width_is_drawn() -> None:
    from selftaught.report.figures import Interval

    assert "circle" in interval_chart([Interval("same", 0.0, 0.0, 0.0)], x_label="x")


HARD = Table(
    "hard",
    "A table & its 100 % trouble",
    ("name", "value", "value_low", "value_high", "is_so"),
    (("=1+1", 0.5, 0.25, 0.75, True), ('a_b & c\\d, "e"', None, None, None, False)),
)


def test_csv_keeps_numbers_in_full_and_formulas_inert(
    recorded: tuple[str, dict[str, Run]],
) -> None:
    rows = list(csv.reader(io.StringIO(csv_bytes(HARD).decode())))
    assert rows[1] == ["'=1+1", "0.5", "0.25", "0.75", "True"]
    assert rows[2] == ['a_b & c\\d, "e"', "", "", "", "False"]
    store, runs = recorded
    with SQLiteStore.open(store, writable=False) as opened:
        table = tables_of(runs["run"], opened)["rounds"]
    parsed = list(csv.DictReader(io.StringIO(csv_bytes(table).decode())))
    assert [float(row["sealed"]) for row in parsed] == runs["run"].scores


def test_latex_escapes_what_it_must() -> None:
    text = latex_bytes(HARD).decode()
    assert r"a\_b \& c\textbackslash{}d" in text
    assert "$0.500$" in text
    assert text.count(r"\\") == 3
    assert r"\begin{tabular}{lrrrl}" in text


def test_parquet_holds_the_same() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    read = parquet.read_table(pyarrow.BufferReader(parquet_bytes(HARD)))
    assert read.column_names == list(HARD.columns)
    assert read.column("value").to_pylist() == [0.5, None]


def test_the_page_joins_a_value_and_its_interval() -> None:
    found = columns(HARD)
    assert [one.heading for one in found] == ["name", "value", "is so"]
    assert found[1].cells == ("0.500 (0.250, 0.750)", "–")


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    raised = "" if result.exception is None else str(result.exception)
    return result.exit_code, result.output + raised


def test_the_command_writes_what_the_name_of_the_file_asks_for(
    recorded: tuple[str, dict[str, Run]], tmp_path: Path
) -> None:
    store, runs = recorded
    run = runs["improve"].id
    for name in ("a.html", "a.csv", "a.tex", "a.parquet"):
        code, said = invoke("report", run, str(tmp_path / name), "--store", store)
        assert code == 0, said
        assert (tmp_path / name).stat().st_size > 100
    code, said = invoke("report", run, str(tmp_path / "a.html"), "--store", store)
    assert code == 1
    assert "--force" in said
    assert invoke("report", run, str(tmp_path / "a.html"), "--store", store, "--force")[0] == 0
    code, said = invoke("report", run, str(tmp_path / "a.doc"), "--store", store)
    assert code != 0
    assert ".html" in said
    code, said = invoke(
        "report", run, str(tmp_path / "b.csv"), "--table", "rounds", "--store", store
    )
    assert code != 0
    assert "improvements" in said


def test_mlflow_gets_settings_numbers_tables_and_the_page(
    recorded: tuple[str, dict[str, Run]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    store, runs = recorded
    uri = f"file:{tmp_path}/mlruns"
    with SQLiteStore.open(store, writable=False) as opened:
        there = export_to_mlflow(opened, runs["run"].id, uri, "lab")
        with pytest.raises(SelftaughtError, match="already"):
            export_to_mlflow(opened, runs["run"].id, uri, "lab")
    client = MlflowClient(tracking_uri=uri)
    data = client.get_run(there).data
    assert data.tags[RUN_TAG] == runs["run"].id
    assert data.params["rounds"] == "2"
    history = [m.value for m in client.get_metric_history(there, "rounds/sealed")]
    assert history == runs["run"].scores
    assert {a.path for a in client.list_artifacts(there)} == {"report.html", "tables"}


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# What a browser asks for by itself, whatever page it shows.
BROWSERS_OWN = ("google", "gvt1.com", "gstatic.com")


def opened_in_chromium(file: Path, profile: Path) -> tuple[str, list[str]]:
    """The page's document after it has loaded, and what it asked the network for."""
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(502)

        do_CONNECT = do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        serving = threading.Thread(target=proxy.serve_forever)
        serving.start()
        try:
            shown = subprocess.run(
                [
                    *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu"),
                    *("--disable-background-networking", "--disable-component-update"),
                    *("--no-first-run", f"--user-data-dir={profile}"),
                    *(f"--proxy-server=127.0.0.1:{proxy.server_port}", "--dump-dom"),
                    file.as_uri(),
                ],
                capture_output=True,
                timeout=120,
                check=True,
                text=True,
            )
        finally:
            proxy.shutdown()
            serving.join()
    return shown.stdout, [path for path in asked if not any(own in path for own in BROWSERS_OWN)]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_opens_the_page_and_asks_nobody(
    recorded: tuple[str, dict[str, Run]], tmp_path: Path
) -> None:
    control = tmp_path / "control.html"
    control.write_text("<img src=http://elsewhere.example/x.png>")
    _, asked = opened_in_chromium(control, tmp_path / "profile")
    assert asked == ["http://elsewhere.example/x.png"]
    store, runs = recorded
    file = tmp_path / "page.html"
    with SQLiteStore.open(store, writable=False) as opened:
        file.write_text(html_text(gather(opened, runs["run"].id)), encoding="utf-8")
    shown, asked = opened_in_chromium(file, tmp_path / "profile")
    assert "<h1>The Self-Taught Optimizer on sorting_network</h1>" in shown
    assert asked == []


def test_a_table_that_is_not_there_is_named(
    recorded: tuple[str, dict[str, Run]], tmp_path: Path
) -> None:
    from selftaught.cli.reporting import _table

    store, runs = recorded
    with (
        SQLiteStore.open(store, writable=False) as opened,
        pytest.raises(UsageError, match="differences, standings, places"),
    ):
        _table(opened, runs["compare"].id, "nothing", "x.csv")
