"""A recorded run as a run of an MLflow tracking server.

A thin export: the store stays the record, and exporting again is refused, not repeated.
"""

import os
from typing import TYPE_CHECKING

import msgspec

from selftaught.errors import SelftaughtError, UsageError
from selftaught.report.content import gather
from selftaught.report.html import html_text
from selftaught.report.table_files import csv_bytes
from selftaught.report.tables import Table
from selftaught.store.event_store import Store

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

RUN_TAG = "selftaught.run"
_PARAM_CHARS = 500
# Tables whose rows are steps of one curve; of the others each row has a name of its own.
_STEPS = {"rounds": "round"}
_METRIC_TABLES = ("rounds", "sealed", "held_out", "improvements", "standings", "differences")


def export_to_mlflow(store: Store, run_id: str, uri: str, experiment: str) -> str:
    """Send a run's settings, numbers, tables and page to a tracking server.

    Args:
        store: open for reading.
        run_id: an id, the unique beginning of one, or `latest`.
        uri: as MLflow takes it, such as `http://127.0.0.1:5000`.
        experiment: the experiment's name there; made where it is missing.

    Returns:
        MLflow's id of the run.

    Raises:
        UsageError: MLflow is not installed.
        SelftaughtError: the server cannot be used, or holds this run already.
    """
    # Neither usage statistics nor a browser: this sends what was asked for and nothing else.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Its own default goes on for minutes where no server is.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UsageError("MLflow is not installed: pip install 'selftaught[mlflow]'.") from error
    run_id = store.resolve(run_id)
    report = gather(store, run_id)
    try:
        client = MlflowClient(tracking_uri=uri)
        where = client.get_experiment_by_name(experiment)
        experiment_id = where.experiment_id if where else client.create_experiment(experiment)
        known = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run_id}'")
        if known:
            raise SelftaughtError(
                f"MLflow holds run {run_id} already, as {known[0].info.run_id} in experiment "
                f"{experiment!r}; delete it there, or name another experiment."
            )
        there = client.create_run(
            experiment_id,
            start_time=int(report.row.created_at * 1000),
            run_name=run_id,
            tags={RUN_TAG: run_id, "selftaught.command": report.row.command},
        ).info.run_id
        for name, value in msgspec.to_builtins(report.config).items():
            client.log_param(there, name, str(value)[:_PARAM_CHARS])
        for name, table in report.tables.items():
            if name in _METRIC_TABLES:
                _log_metrics(client, there, table)
            client.log_text(there, csv_bytes(table).decode(), f"tables/{name}.csv")
        client.log_text(there, html_text(report), "report.html")
        ended_ms = int((report.row.ended_at or report.row.created_at) * 1000)
        status = "FINISHED" if report.row.status in ("done", "budget") else "KILLED"
        client.set_terminated(there, status, ended_ms)
    except MlflowException as error:
        raise SelftaughtError(f"MLflow at {uri} does not take the run: {error.message}") from error
    return str(there)


def _log_metrics(client: "MlflowClient", there: str, table: Table) -> None:
    step_column = _STEPS.get(table.name)
    for row in table.rows:
        named = dict(zip(table.columns, row, strict=True))
        step = int(named[step_column] or 0) if step_column else 0
        prefix = table.name if step_column else f"{table.name}/{row[0]}"
        for column, value in named.items():
            if isinstance(value, (int, float)) and column != step_column:
                client.log_metric(there, f"{prefix}/{column}", float(value), step=step)
