"""Metrics of this application alone, or of all processes behind a port; cheap and never secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

import orchestrator
from orchestrator.api.database_counts import Counts, LaneCounts
from orchestrator.api.database_gauges import Counted, Gauges
from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import account_state, callback_address, delivery, subscriber
from orchestrator.foundation.clock import EPOCH, after
from orchestrator.foundation.ids import made_at
from orchestrator.foundation.metrics import EndedJob, Labeled, Metrics, sample_names
from orchestrator.simulator.faults import Faults
from tests.harness.api_caller import until
from tests.harness.live import IMPATIENT, live, order
from tests.harness.runtime import START, Harness

pytestmark = pytest.mark.long

DEPLOY = Path(orchestrator.__file__).parent.parent / "deploy"
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def read(page: str) -> Samples:
    """Return the samples of an exposition: by name, the value for each set of labels."""
    found: Samples = defaultdict(dict)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(
        value
        for known, value in samples[f"orchestrator_{name}"].items()
        if labels.items() <= dict(known).items()
    )


def page_of(metrics: Metrics) -> Samples:
    return read(metrics.exposition(Counted()).decode())


# -- one process


async def test_every_step_of_a_job_is_counted(tmp_path: Path) -> None:
    async with live(tmp_path) as it:
        made = await it.api.submit(order("kling"))
        await it.delivered(made["id"])
        refused = await it.outside.post(it.url + "/callbacks/kling/forged", json={})
        assert refused.status_code == 404
        assert (await it.api.call("GET", f"/v1/jobs/{made['id']}")).status_code == 200

        def counted() -> Samples | None:
            found = page_of(it.runtime.metrics)
            return (
                found
                if total(found, "deliveries_total", kind="webhook", result="delivered")
                else None
            )

        await until(counted, "the delivery is counted")
        answer = await it.outside.get(it.url + "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = read(answer.text)
    assert total(found, "jobs_submitted_total", vendor="kling", model=order("kling")["model"]) == 1
    assert (
        total(found, "jobs_finished_total", vendor="kling", status="succeeded", resolved_by="push")
        == 1
    )
    assert total(found, "job_duration_seconds_count", vendor="kling", status="succeeded") == 1
    assert (
        total(
            found, "vendor_requests_total", vendor="kling", operation="submit", outcome="accepted"
        )
        == 1
    )
    assert total(found, "vendor_request_duration_seconds_sum", operation="submit") > 0
    assert total(found, "pushes_received_total", vendor="kling", result="accepted") >= 1
    assert total(found, "pushes_received_total", vendor="kling", result="unknown_task") == 1
    assert total(found, "push_lag_seconds_count", vendor="kling") == 1
    assert 0 < total(found, "delivery_lag_seconds_sum", kind="webhook") < 60
    assert total(found, "http_requests_total", route="/v1/jobs", method="POST", status="202") == 1
    assert (
        total(found, "http_requests_total", route="/v1/jobs/{id}", method="GET", status="200") == 1
    )
    assert (
        total(found, "http_requests_total", route="/callbacks/{account}/{token}", status="404") == 1
    )
    assert total(found, "http_request_duration_seconds_count", route="/v1/jobs", method="POST") == 1
    assert total(found, "build_info", version=orchestrator.__version__) == 1
    assert total(found, "jobs_in_flight") == total(found, "dead_letters") == 0
    labels = {label for values in found.values() for labels in values for label in labels}
    texts = [value for name, value in labels if name != "subscriber"]
    assert not [text for text in texts if re.search(r"(job|evt|sub|dlv|psh)_0|://", text)], (
        "no ids, no URLs"
    )
    assert total(found, "process_cpu_seconds_total") > 0
    assert total(found, "process_resident_memory_bytes") > 10_000_000
    assert total(found, "database_size_bytes") > 10_000
    assert total(found, "disk_free_bytes") > 0
    assert "_created" not in answer.text


async def test_a_final_state_found_by_poll_is_counted_as_a_missed_push(tmp_path: Path) -> None:
    async with live(tmp_path, {"kling": {"poll": IMPATIENT}}, faults=Faults(drop_push=1.0)) as it:
        made = await it.api.submit(order("kling"))
        await it.delivered(made["id"])
        found = page_of(it.runtime.metrics)
    assert (
        total(found, "push_missed_total", vendor="kling")
        == total(found, "poll_saves_total", vendor="kling")
        == 1
    )
    assert total(found, "polls_total", vendor="kling", result="answered") >= 1
    assert (
        total(
            found, "vendor_requests_total", vendor="kling", operation="inquiry", outcome="accepted"
        )
        >= 1
    )


def test_two_applications_in_one_process_count_separately() -> None:
    first, second = Metrics(), Metrics()
    first.submitted("kling", "m")
    assert total(page_of(first), "jobs_submitted_total") == 1
    assert total(page_of(second), "jobs_submitted_total") == 0


def test_any_number_of_models_makes_few_series() -> None:
    metrics = Metrics()
    for number in range(200):
        metrics.submitted("kling", f"model-{number}")
    found = page_of(metrics)["orchestrator_jobs_submitted_total"]
    assert len(found) == 51
    assert sum(found.values()) == 200


def test_an_id_holds_the_instant_it_was_made_at(h: Harness) -> None:
    for seconds in (0, 0.001, 86_400 * 365 * 70):
        at = after(START, seconds)
        h.clock.advance((at - h.clock.now()).total_seconds())
        assert made_at(h.runtime.ids("dlv")) == at
    assert made_at("evt_" + "0" * 26) == EPOCH


# -- the database


async def test_gauges_of_the_database_are_by_kind(h: Harness) -> None:
    for state in ("queued", "submitted"):
        await h.open(state=state)
    await h.open(state="succeeded", due_at=None)
    subscribers = [subscriber_row(h, "sub_1", "webhook"), subscriber_row(h, "sub_2", "slack")]
    lanes = [("sub_1", "pending"), ("sub_2", "dead"), ("sub_2", "dead"), ("x", "pending")]
    owed = [
        {"id": f"dlv_{n}", "event_id": f"evt_{n}", "subscriber_id": lane, "state": state,
         "lease": 0, "tries": 0, "due_at": None if state == "dead" else after(START, -n),
         "created_at": START}
        for n, (lane, state) in enumerate(lanes)
    ]  # fmt: skip
    await h.runtime.store.write(lambda tx: tx.execute(sa.insert(subscriber), subscribers) and None)
    await h.runtime.store.write(lambda tx: tx.execute(sa.insert(delivery), owed) and None)
    found = read(h.runtime.metrics.exposition(await h.runtime.assemble(Gauges).now()).decode())
    assert total(found, "jobs_in_flight") == 2
    assert total(found, "jobs_in_flight", vendor="agentsflare", status="queued") == 1
    assert (
        total(found, "deliveries_pending", kind="webhook")
        == total(found, "deliveries_pending", kind="unknown")
        == 1
    )
    assert total(found, "dead_letters", kind="slack") == 2
    assert total(found, "outbox_oldest_age_seconds") == 3


async def test_gauges_of_the_database_are_by_account_and_status(h: Harness) -> None:
    old = await h.open(state="queued", account="main")
    h.clock.advance(10)
    await h.open(state="queued", account="main")
    await h.open(state="submitted", account="main")
    start = after(h.clock.now(), 60)
    await h.open(state="queued", account="main", start_after=start, due_at=start)
    changed = {
        "paused_until": after(START, 60), "degraded": True, "unsigned": 1, "stale": 2,
        "mismatched": 12, "held_reason": "exhausted", "held_since": START,
    }  # fmt: skip
    mine = account_state.c.account == "main"
    await h.runtime.store.write(
        lambda tx: tx.execute(sa.update(account_state).where(mine).values(changed)) and None
    )
    aged = (h.clock.now() - made_at(old["id"])).total_seconds() + 40
    h.clock.advance(40)
    found = read(h.runtime.metrics.exposition(await h.runtime.assemble(Gauges).now()).decode())
    assert total(found, "account_jobs", account="main", status="queued") == 3
    assert total(found, "account_oldest_job_age_seconds", account="main", status="queued") == aged
    assert total(found, "account_oldest_job_age_seconds", account="main", status="submitted") == 40
    assert total(found, "account_paused", account="main") == 1
    assert total(found, "account_held", account="main", reason="exhausted") == 1
    assert total(found, "account_push_degraded", account="main") == 1
    assert total(found, "pushes_refused_total", account="main", reason="mismatched") == 12
    assert total(found, "pushes_refused_total") == 15
    assert total(found, "database_size_bytes") > 10_000
    h.clock.advance(21)
    later = read(h.runtime.metrics.exposition(await h.runtime.assemble(Gauges).now()).decode())
    assert total(later, "account_paused") == 0


async def test_gauges_of_the_database_are_by_subscriber(h: Harness) -> None:
    now = h.clock.now()
    hook, host = subscriber_row(h, "sub_1", "webhook"), subscriber_row(h, "sub_2", "webhook")
    rows = [
        hook | {"failing_since": after(now, -30), "callback_origin": None},
        host | {"failing_since": None, "callback_origin": "https://x.example"},
    ]
    url = {"lane": "sub_2", "failures": 3, "last_error": "", "updated_at": now}
    urls = [url | {"key": str(age), "failing_since": after(now, -age)} for age in (5, 90)]
    owed = [
        {"id": f"dlv_{n}", "event_id": f"evt_{n}", "subscriber_id": "sub_1", "state": state,
         "lease": 0, "tries": 0, "due_at": due and after(now, due), "created_at": now}
        for n, (state, due) in enumerate([("pending", -7), ("pending", 9), ("dead", None)])
    ]  # fmt: skip

    def insert(tx: Tx) -> None:
        tx.execute(sa.insert(subscriber), rows)
        tx.execute(sa.insert(callback_address), urls)
        tx.execute(sa.insert(delivery), owed)

    await h.runtime.store.write(insert)
    found = read(h.runtime.metrics.exposition(await h.runtime.assemble(Gauges).now()).decode())
    shown = {
        name: total(found, f"subscriber_{name}", subscriber="sub_1", kind="webhook")
        for name in (
            "deliveries_pending", "deliveries_later", "oldest_due_seconds", "failing_seconds",
            "dead_letters",
        )
    }  # fmt: skip
    assert [*shown.values()] == [2, 1, 7, 30, 1]
    assert total(found, "subscriber_failing_seconds", kind="callback") == 90


def test_any_number_of_subscribers_makes_few_series() -> None:
    lanes = [LaneCounts(f"sub_{n}", "webhook", pending=1, failing=n) for n in range(200)]
    found = read(Metrics().exposition(Counted(Counts(lanes=lanes))).decode())
    pending = found["orchestrator_subscriber_deliveries_pending"]
    assert len(pending) == 51
    assert sum(pending.values()) == 200
    assert total(found, "subscriber_failing_seconds", subscriber="sub_199") == 199
    assert total(found, "subscriber_deliveries_pending", subscriber="other") == 150
    assert total(found, "subscriber_failing_seconds", subscriber="other") == 149


def subscriber_row(h: Harness, name: str, kind: str) -> dict[str, Any]:
    sealed = h.runtime.keys.encrypt("https://x.example")
    return {
        "id": name, "kind": kind, "address": sealed, "shown": "x", "secrets": [], "types": [],
        "description": "", "options": {}, "max_in_flight": 8, "state": "active",
        "created_at": START,
    }  # fmt: skip


async def test_gauges_of_the_database_are_cached_for_a_while(h: Harness) -> None:
    reads = 0

    def seen(*_: object) -> None:
        nonlocal reads
        reads += 1

    gauges = h.runtime.assemble(Gauges)
    await gauges.now()
    sa.event.listen(sa.Engine, "before_cursor_execute", seen)
    try:
        await gauges.now()
        assert reads == 0
        h.clock.advance(6)
        await gauges.now()
        assert reads > 0
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", seen)


async def test_an_unavailable_database_leaves_its_gauges_out(h: Harness, tmp_path: Path) -> None:
    away = Store(f"sqlite:///{tmp_path}/nowhere/x.db")
    page = h.runtime.metrics.exposition(
        await Gauges(
            store=away,
            clock=h.clock,
            vendors=h.runtime.vendors,
            settings=h.runtime.settings,
            learning=h.runtime.learning,
        ).now()
    ).decode()
    away.close()
    assert "orchestrator_dead_letters" not in page
    assert "orchestrator_build_info" in page
    assert (
        "orchestrator_dead_letters"
        in h.runtime.metrics.exposition(await h.runtime.assemble(Gauges).now()).decode()
    )


# -- several processes: tests/cli/test_supervisor.py


def test_metrics_of_a_host_application_are_not_exposed(tmp_path: Path) -> None:
    """Our metrics need no credential; those of the application around us are not ours to show."""
    program = """
from prometheus_client import Counter
from orchestrator.api.database_gauges import Counted
from orchestrator.foundation.metrics import EndedJob, Metrics
Counter("logins", "The host's own.", ["user"]).labels("alice").inc()
metrics = Metrics()
metrics.submitted("kling", "kling-v3")
print(metrics.exposition(Counted()).decode())
"""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    page = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert total(read(page), "jobs_submitted_total", vendor="kling") == 1
    assert "logins" not in page


def test_a_clock_that_was_set_back_never_lowers_a_sum() -> None:
    metrics = Metrics()
    job: EndedJob = {
        "vendor": "kling",
        "state": "succeeded",
        "resolved_by": "push",
        "vendor_updated_at": None,
        "created_at": START,
        "finished_at": after(START, -60),
    }
    metrics.ended(job, pushes=True)
    assert total(page_of(metrics), "job_duration_seconds_sum") == 0
    assert total(page_of(metrics), "job_duration_seconds_count") == 1


# -- dashboard and alerts


def names() -> set[str]:
    return {*Metrics().names, *sample_names(Counted().collect())}


@pytest.mark.parametrize("file", ["grafana/orchestrator.json", "prometheus/alerts.yml"])
def test_dashboard_and_alerts_use_existing_metrics(file: str) -> None:
    used = set(re.findall(r"orchestrator_[a-z_]+", (DEPLOY / file).read_text()))
    assert len(used) > 10
    assert used <= names()


def expressions() -> list[tuple[str, str]]:
    """Return each expression of dashboard and alerts, with the texts that name its labels."""
    board = json.loads((DEPLOY / "grafana/orchestrator.json").read_text())
    targets = [target for panel in board["panels"] for target in panel.get("targets", [])]
    (group,) = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [
        *((target["expr"], target["legendFormat"]) for target in targets),
        *((rule["expr"], " ".join(rule["annotations"].values())) for rule in group["rules"]),
    ]


def labels_of() -> dict[str, set[str]]:
    """Return the labels of each sample."""
    has = defaultdict(set, {"up": {"job", "instance"}, "orchestrator_build_info": {"version"}})
    own = [
        metric._metric if isinstance(metric, Labeled) else metric
        for metric in vars(Metrics()).values()
        if isinstance(metric, (Labeled, MetricWrapperBase))
    ]
    families = [(metric.collect(), metric._labelnames) for metric in own]
    counted = [([metric], vars(metric)["_labelnames"]) for metric in Counted().collect()]
    for metrics, labels in (*families, *counted):
        for name in sample_names(metrics):
            has[name] |= {"le", "instance", *labels}
    return has


def test_dashboard_and_alerts_use_labels_that_their_metrics_have() -> None:
    has = labels_of()
    for expr, words in expressions():
        groups = re.findall(r"\b(?:by|on) \(([^)]*)\)", expr)
        used = {name for group in groups for name in group.replace(" ", "").split(",")}
        used |= set(re.findall(r"[{,](\w+)(?:=|!=|=~)", expr))
        used |= set(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", words))
        metrics = re.findall(r"\borchestrator_[a-z_]+|\bup\b", expr)
        assert metrics, expr
        assert used <= set().union(*(has[name] for name in metrics)), expr


def test_the_operations_page_lists_every_metric() -> None:
    page = (DEPLOY.parent / "docs/operations.md").read_text()
    listed = set(re.findall(r"^\| `(orchestrator_\w+)` \|", page, re.MULTILINE))
    assert listed == {re.sub("_(bucket|sum|count)$", "", name) for name in names()}


def test_the_dashboard_can_be_imported() -> None:
    board = json.loads((DEPLOY / "grafana/orchestrator.json").read_text())
    assert [
        item["name"] for item in board["templating"]["list"] if item["type"] == "datasource"
    ] == ["datasource"]
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert all(
        panel["targets"] and panel["datasource"]["uid"] == "${datasource}" for panel in panels
    )
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])


def test_every_alert_has_a_summary_and_a_severity() -> None:
    (group,) = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"]) >= 6
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["expr"].count("(") == rule["expr"].count(")")
