"""The receiver: a push is stored byte for byte, applied, and acknowledged once that is durable."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.database.store import Tx
from orchestrator.database.tables import event, job, push
from orchestrator.database.tables.rows import JobRow
from orchestrator.engine import receive_storage
from orchestrator.engine.poll import Poller
from orchestrator.engine.receive import Receiver
from orchestrator.engine.submit import Submitter
from orchestrator.foundation.errors import BadSignature, BadToken, SignatureFault, Unreadable
from orchestrator.foundation.signing.secret_keys import Callback
from orchestrator.foundation.signing.standard_webhooks import new_secret, sign
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.orders import TOKEN_GRACE
from orchestrator.jobs.timeline import entries
from tests.harness.engine import (
    at_vendor,
    drive,
    event_types,
    kling_response,
    legacy_task,
    report_state,
    seconds_until_due,
)
from tests.harness.runtime import Harness, open_harness

S = JobState
SECRET = new_secret()
ACCOUNTS: dict[str, dict[str, Any]] = {
    "main": {"vendor": "agentsflare", "api_key": "k"},
    "forking": {"vendor": "cubicspaces", "api_key": "k"},
    "kling": {"vendor": "kling", "api_key": "k"},
    "optional": {
        "vendor": "kling",
        "api_key": "k",
        "signature": "optional",
        "webhook_secrets": [SECRET],
    },
    "required": {
        "vendor": "kling",
        "api_key": "k",
        "signature": "required",
        "webhook_secrets": [SECRET],
    },
}


@pytest.fixture
async def h(tmp_path: Path, database: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, accounts=ACCOUNTS, database_url=database) as opened:
        yield opened


def encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


async def pushed(
    h: Harness, job: JobRow, body: Any, *, attempt: int = 1, headers: dict[str, str] | None = None
) -> JobRow:
    """Push a body for a job, as its vendor does; return the job's row."""
    vendor = h.runtime.vendors[job["account"]]
    await h.runtime.assemble(Receiver).push(
        vendor, Callback(job["id"], attempt), headers or {}, encoded(body)
    )
    return await h.job(job["id"])


# -- tokens


async def test_a_token_names_account_job_and_attempt(h: Harness) -> None:
    opened = await h.open()
    token = h.runtime.keys.mint(
        "main", Callback(opened["id"], 3), opened["deadline_at"] + TOKEN_GRACE
    )
    vendor, callback = h.runtime.assemble(Receiver).unseal("main", token)
    assert (vendor.account.name, callback) == ("main", Callback(opened["id"], 3))


async def test_a_token_expires_a_week_after_its_jobs_deadline(h: Harness) -> None:
    opened = await h.open()
    token = h.runtime.keys.mint(
        "main", Callback(opened["id"], 1), opened["deadline_at"] + TOKEN_GRACE
    )
    h.clock.advance(86400 + 7 * 86400)
    h.runtime.assemble(Receiver).unseal("main", token)
    h.clock.advance(1)
    with pytest.raises(BadToken):
        h.runtime.assemble(Receiver).unseal("main", token)


async def test_a_token_of_an_account_that_is_no_longer_configured_is_refused(h: Harness) -> None:
    opened = await h.open()
    token = h.runtime.keys.mint("gone", Callback(opened["id"], 1), opened["deadline_at"])
    with pytest.raises(BadToken):
        h.runtime.assemble(Receiver).unseal("gone", token)


# -- stored and applied


async def test_a_push_is_stored_byte_for_byte_with_its_outcome(h: Harness) -> None:
    opened = await at_vendor(h)
    body = (
        b'  {"task_id":"t-1", "task_status": "succeed",\n '
        b'"task_result":{"videos":[{"url":"https://x/v.mp4"}]}} '
    )
    headers = {
        "content-type": "application/json",
        "authorization": "secret",
        "user-agent": "kling/1",
        "webhook-id": "i" * 999,
    }
    done = await pushed(h, opened, body, headers=headers)
    assert (done["state"], done["resolved_by"]) == (S.SUCCEEDED, Source.PUSH)
    (stored,) = await h.rows(push)
    assert (stored["body"], stored["outcome"], stored["job_id"], stored["copies"]) == (
        body,
        "moved",
        opened["id"],
        1,
    )
    assert stored["headers"] == {
        "content-type": "application/json", "user-agent": "kling/1", "webhook-id": "i" * 255,
    }  # fmt: skip
    assert ((await h.account())["pushes"], (await h.account())["last_push_at"]) == (
        1,
        h.clock.now(),
    )


async def test_copies_are_counted_and_change_nothing(h: Harness) -> None:
    opened = await at_vendor(h)
    body = legacy_task("t-1", "succeed")
    first = await pushed(h, opened, body)
    await asyncio.gather(*(pushed(h, opened, body) for _ in range(9)))
    assert await h.job(opened["id"]) == first
    (stored,) = await h.rows(push)
    assert (stored["copies"], stored["outcome"]) == (10, "moved")
    assert await event_types(h) == ["job.submitted", "job.succeeded"]
    assert (await h.account())["pushes"] == 10


async def test_a_copy_is_applied_even_if_the_first_push_was_stored_and_not_applied(
    h: Harness,
) -> None:
    """Deduplication never skips applying."""
    opened = await at_vendor(h)
    body = legacy_task("t-1", "succeed")
    await pushed(h, opened, body)
    await h.run(event.delete())
    await h.run(job.update().values(state=S.SUBMITTED, sequence=0, due_at=h.clock.now()))
    assert (await pushed(h, opened, body))["state"] == S.SUCCEEDED
    assert await event_types(h) == ["job.succeeded"]


async def test_the_same_body_for_two_jobs_is_two_pushes(h: Harness) -> None:
    first, second = await at_vendor(h), await at_vendor(h, task="t-2")
    for row in (first, second):
        assert (await pushed(h, row, legacy_task("t-9", "succeed")))["state"] == S.SUCCEEDED
    assert len(await h.rows(push)) == 2


async def test_an_unknown_task_id_in_a_gateways_push_is_accepted_and_not_adopted(
    h: Harness,
) -> None:
    """Gateways forward our URL to Kling, which pushes its own id. The token identifies the job."""
    opened = await h.open()
    moved = await pushed(h, opened, legacy_task("kling-77", "processing"))
    assert (moved["state"], moved["vendor_task_id"]) == (S.PROCESSING, None)


async def test_a_task_id_is_adopted_from_vendors_that_push_the_id_they_return(h: Harness) -> None:
    moved = await pushed(h, await h.open("kling"), legacy_task("t-5", "processing"))
    assert moved["vendor_task_id"] == "t-5"


async def test_of_several_tasks_in_a_push_the_task_with_our_external_id_counts(h: Harness) -> None:
    opened = await at_vendor(h)
    tasks = [
        legacy_task("x", "failed", task_info={"external_task_id": "other"}),
        legacy_task("t-1", "succeed", task_info={"external_task_id": opened["id"]}),
    ]
    assert (await pushed(h, opened, tasks))["state"] == S.SUCCEEDED


async def test_a_push_about_a_deleted_job_is_stored(h: Harness) -> None:
    opened = await h.open()
    await h.runtime.assemble(Receiver).push(
        h.runtime.vendors["main"], Callback("job_gone", 1), {}, encoded(legacy_task("t", "succeed"))
    )
    (stored,) = await h.rows(push)
    assert stored["outcome"] == "no_job"
    assert (await h.job(opened["id"]))["state"] == S.QUEUED


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("processing", "nothing_new"), ("failed", "contradicts"), ("succeed", "nothing_new")],
)
async def test_a_push_after_the_end_is_stored_and_changes_nothing(
    h: Harness, state: str, outcome: str
) -> None:
    opened = await at_vendor(h)
    done = await report_state(h, opened["id"], S.SUCCEEDED)
    assert await pushed(h, opened, legacy_task("t-1", state)) == done
    (stored,) = await h.rows(push)
    assert stored["outcome"] == outcome


async def test_a_failure_pushed_by_a_relay_is_unconfirmed_and_a_later_success_counts(
    h: Harness,
) -> None:
    opened = await at_vendor(h, "forking")
    unconfirmed = await pushed(h, opened, legacy_task("kling-1", "failed"))
    assert (unconfirmed["state"], unconfirmed["due_at"]) == (S.SUBMITTED, h.clock.now())
    assert (await pushed(h, opened, legacy_task("kling-2", "succeed")))["state"] == S.SUCCEEDED


async def test_an_earlier_attempts_failure_is_unconfirmed_and_its_success_counts(
    h: Harness,
) -> None:
    opened = await at_vendor(h)
    await h.run(job.update().values(attempt=2))
    assert (await pushed(h, opened, legacy_task("t-0", "failed"), attempt=1))[
        "state"
    ] == S.SUBMITTED
    assert (await pushed(h, opened, legacy_task("t-0", "succeed"), attempt=1))[
        "state"
    ] == S.SUCCEEDED


# -- bodies that cannot be read


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'"hi"', b"null", b"7", b'{"data":[1]}', b'{"task_id":"t"}', b"[[]]"]
)
async def test_json_without_a_report_is_stored_and_the_vendor_is_polled(
    h: Harness, body: bytes
) -> None:
    opened = await at_vendor(h)
    row = await pushed(h, opened, body)
    assert (row["state"], row["due_at"]) == (S.SUBMITTED, h.clock.now())
    (stored,) = await h.rows(push)
    assert stored["outcome"].startswith("unreadable")
    h.network.answer = lambda _: kling_response(legacy_task("t-1", "succeed"))
    assert await drive(h.runtime.assemble(Poller)) == 1
    assert (await h.job(opened["id"]))["state"] == S.SUCCEEDED


async def test_an_unreadable_push_does_not_release_a_submission_in_progress(h: Harness) -> None:
    opened = await h.open("kling")
    stage = h.runtime.assemble(Submitter)
    await stage.take(10)
    before = await h.job(opened["id"])
    assert await pushed(h, opened, b"{}") == before
    assert list(await stage.take(10)) == []


async def test_an_unknown_word_keeps_the_job_live_and_is_stored(h: Harness) -> None:
    row = await pushed(h, await at_vendor(h), legacy_task("t-1", "dreaming"))
    assert (row["state"], row["vendor_status"], seconds_until_due(h, row)) == (
        S.SUBMITTED,
        "dreaming",
        60,
    )
    (stored,) = await h.rows(push)
    assert stored["outcome"] == "unknown_word"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"hello", b"{", b"NaN", b'{"a":Infinity}', b"\xff\xfe", b"[" * 100_000,
        b"task_id=t-1&task_status=succeed", '{"message": "café"}'.encode("latin-1"),
    ],
)  # fmt: skip
async def test_a_body_that_is_not_json_is_refused_and_stored_and_the_vendor_is_asked(
    h: Harness, body: bytes
) -> None:
    opened = await at_vendor(h)
    h.clock.advance(1)
    with pytest.raises(Unreadable):
        await pushed(h, opened, body)
    (stored,) = await h.rows(push)
    assert (stored["body"], stored["outcome"]) == (body, "rejected: the body is not JSON")
    assert (await h.job(opened["id"])) == opened | {"due_at": h.clock.now()}
    assert (await h.account())["pushes"] == 0


UNCERTAIN: Mapping[str, Any] = {
    "not JSON": b"hello",
    "no task": [],
    "another task": legacy_task("t-2", "failed"),
    "no output": {"task_id": "t-1", "task_status": "succeed"},
}


@pytest.mark.parametrize("body", UNCERTAIN.values(), ids=UNCERTAIN)
async def test_uncertain_pushes_of_one_job_cost_one_status_query_an_interval(
    h: Harness, body: Any
) -> None:
    opened = await at_vendor(h, "kling")
    h.network.answer = lambda _: kling_response(legacy_task("t-1", "processing"))
    for _ in range(13):
        for _ in range(2):
            with contextlib.suppress(Unreadable):
                await pushed(h, opened, body)
            await drive(h.runtime.assemble(Poller))
        h.clock.advance(2.5)
    # At 0, 15 and 30 seconds.
    assert len(h.network.requests) == 3


async def test_an_uncertain_push_during_a_status_query_begins_no_second_one(h: Harness) -> None:
    opened = await at_vendor(h)
    h.clock.advance(60)
    poller = h.runtime.assemble(Poller)
    assert len(await poller.take(1)) == 1
    with pytest.raises(Unreadable):
        await pushed(h, opened, b"hello")
    assert not await poller.take(1)


# -- signatures


def signed(h: Harness, body: Any, secret: str = SECRET) -> dict[str, str]:
    return sign([secret], "msg_1", h.clock.now(), encoded(body))


@pytest.mark.parametrize("policy", ["optional", "required"])
async def test_a_valid_signature_is_recorded(h: Harness, policy: str) -> None:
    opened = await at_vendor(h, policy)
    body = legacy_task("t-1", "succeed")
    assert (await pushed(h, opened, body, headers=signed(h, body)))["state"] == S.SUCCEEDED
    (stored,) = await h.rows(push)
    assert stored["verified"]
    assert "webhook-signature" not in stored["headers"]


async def test_every_reason_to_reject_a_body_is_stored(h: Harness) -> None:
    opened, body = await at_vendor(h, "required"), legacy_task("t-1", "succeed")
    forged = signed(h, body, secret="whsec_" + "f" * 32)
    for headers in ({}, forged, {}, {"webhook-id": "msg_1"}):
        with pytest.raises(BadSignature):
            await pushed(h, opened, body, headers=headers)
    stored = await h.rows(push)
    assert sorted((row["outcome"].partition(": ")[2], row["copies"]) for row in stored) == [
        ("no signature matches a configured secret", 1),
        ("the account requires a signature and the push has none", 2),
        ("webhook-id, webhook-timestamp and webhook-signature must come together", 1),
    ]


async def test_a_missing_signature_is_accepted_only_where_signatures_are_optional(
    h: Harness,
) -> None:
    body = legacy_task("t-1", "succeed")
    assert (await pushed(h, await at_vendor(h, "optional"), body))["state"] == S.SUCCEEDED
    with pytest.raises(BadSignature):
        await pushed(h, await at_vendor(h, "required"), body)


@pytest.mark.parametrize("policy", ["optional", "required"])
@pytest.mark.parametrize("fault", ["other key", "other body", "stale", "half"])
async def test_a_push_with_a_wrong_signature_is_refused_and_stored_and_not_applied(
    h: Harness, policy: str, fault: str
) -> None:
    opened = await at_vendor(h, policy)
    body = legacy_task("t-1", "succeed")
    headers = signed(
        h,
        b"other" if fault == "other body" else body,
        new_secret() if fault == "other key" else SECRET,
    )
    if fault == "half":
        del headers["webhook-timestamp"]
    if fault == "stale":
        h.clock.advance(301)
    with pytest.raises(BadSignature):
        await pushed(h, opened, body, headers=headers)
    assert (await h.job(opened["id"])) == opened
    (stored,) = await h.rows(push)
    assert stored["outcome"].startswith("rejected")
    assert not stored["verified"]
    counted = {"half": "unsigned", "stale": "stale"}.get(fault, "mismatched")
    account = await h.account(policy)
    assert {name: account[name] for name in SignatureFault} == {  # type: ignore[literal-required]
        name: int(name == counted) for name in SignatureFault
    }
    assert account["last_refused_at"] == h.clock.now()


async def test_a_rejected_push_does_not_block_the_same_body_with_a_valid_signature(
    h: Harness,
) -> None:
    opened = await at_vendor(h, "required")
    body = legacy_task("t-1", "succeed")
    with pytest.raises(BadSignature):
        await pushed(h, opened, body)
    assert (await pushed(h, opened, body, headers=signed(h, body)))["state"] == S.SUCCEEDED
    assert sorted(row["outcome"].split(":")[0] for row in await h.rows(push)) == [
        "moved",
        "rejected",
    ]


async def test_a_signature_with_an_unknown_key_is_ignored_without_a_policy(h: Harness) -> None:
    opened = await at_vendor(h)
    body = legacy_task("t-1", "succeed")
    assert (await pushed(h, opened, body, headers=signed(h, body, new_secret())))[
        "state"
    ] == S.SUCCEEDED


async def test_many_pushes_at_once_share_their_commits(h: Harness) -> None:
    jobs = [await at_vendor(h, task=f"t-{n}") for n in range(60)]
    before = h.runtime.store.commits
    stage = h.runtime.assemble(Receiver)
    vendor = h.runtime.vendors["main"]
    await asyncio.gather(
        *(
            stage.push(
                vendor,
                Callback(row["id"], 1),
                {},
                encoded(legacy_task(row["vendor_task_id"], "succeed")),
            )
            for row in jobs
        )
    )
    assert {(await h.job(row["id"]))["state"] for row in jobs} == {S.SUCCEEDED}
    assert h.runtime.store.commits - before < 20


# -- the limits of what is stored for a job


def numbered(n: int, state: str = "processing", size: int = 0) -> bytes:
    return encoded(legacy_task("t-1", state, n=n, pad="x" * size))


async def test_pushes_beyond_the_limit_are_applied_and_counted_without_their_bodies(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive_storage, "MAX_STORED", 5)
    opened = await at_vendor(h)
    for n in range(9):
        await pushed(h, opened, numbered(n))
    await pushed(h, opened, numbered(2))
    assert (await pushed(h, opened, numbered(10, "succeed")))["state"] == S.SUCCEEDED
    rows = await h.rows(push)
    assert [(row["copies"], bool(row["body"])) for row in rows] == [
        (1, True), (1, True), (2, True), (1, True), (1, True), (5, False),
    ]  # fmt: skip
    assert rows[-1]["outcome"] == "not kept: the job has too many pushes"
    assert (await h.account())["pushes"] == 11
    (entry,) = [
        e.document
        for e in await h.runtime.store.read(entries, opened["id"], None, 999)
        if e.document.get("push") == rows[-1]["id"]
    ]
    assert (entry["outcome"], entry["copies"], entry["bytes"]) == (rows[-1]["outcome"], 5, 0)


async def test_concurrent_pushes_are_bounded_too(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive_storage, "MAX_STORED", 5)
    jobs = [await at_vendor(h), await at_vendor(h, task="t-2")]
    stage, vendor = h.runtime.assemble(Receiver), h.runtime.vendors["main"]
    await asyncio.gather(
        *(
            stage.push(vendor, Callback(row["id"], 1), {}, numbered(n))
            for n in range(40)
            for row in jobs
        )
    )
    rows = await h.rows(push)
    for each in jobs:
        mine = [row for row in rows if row["job_id"] == each["id"]]
        # Concurrent transactions of a server do not see each other and may store a few more.
        assert 5 <= len([row for row in mine if row["body"]]) <= 5 * (1 + h.runtime.store.shared)
        assert sum(row["copies"] for row in mine) == 40


async def test_stored_bodies_are_bounded_by_their_bytes(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive_storage, "MAX_STORED_BYTES", 5000)
    opened = await at_vendor(h)
    for n in range(9):
        await pushed(h, opened, numbered(n, size=1500))
    await pushed(h, opened, numbered(10))
    assert sum(len(row["body"]) for row in await h.rows(push)) <= 5000
    assert sorted(row["copies"] for row in await h.rows(push)) == [1, 1, 1, 1, 6], (
        "a small body still had room"
    )


async def test_rejected_pushes_leave_room_for_accepted_pushes(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive_storage, "MAX_STORED", 8)
    opened = await at_vendor(h, "required")
    for n in range(20):
        with pytest.raises(BadSignature):
            await pushed(h, opened, numbered(n))
    for n in range(20):
        await pushed(h, opened, numbered(n), headers=signed(h, numbered(n)))
    rows = await h.rows(push)
    assert len([row for row in rows if row["body"] and row["verified"]]) >= 3
    assert len([row for row in rows if row["body"] and not row["verified"]]) == 4
    assert sum(row["copies"] for row in rows) == 40
    assert (await h.account("required"))["pushes"] == 20
    assert {row["outcome"] for row in rows if not row["body"]} == {
        "rejected; not kept: the job has too many pushes", "not kept: the job has too many pushes",
    }  # fmt: skip


async def test_the_stored_pushes_of_a_job_are_found_by_an_index(tmp_path: Path) -> None:
    async with open_harness(tmp_path, database_url=f"sqlite:///{tmp_path / 'plan.db'}") as alone:

        def plan(tx: Tx) -> list[str]:
            found = receive_storage._STORED.select.params(values=["job_1"])
            text = found.compile(tx, compile_kwargs={"literal_binds": True})
            return [row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]

        assert await alone.runtime.store.read(plan) == [
            "SEARCH push USING INDEX sqlite_autoindex_push_2 (job_id=?)"
        ]


async def test_requests_for_unknown_accounts_do_not_fill_the_cache_of_keys(h: Harness) -> None:
    opened = await h.open()
    token = h.runtime.keys.mint("main", Callback(opened["id"], 1), opened["deadline_at"])
    before = h.runtime.keys._signer.cache_info().currsize
    for n in range(50):
        with pytest.raises(BadToken):
            h.runtime.assemble(Receiver).unseal(f"guess-{n}", token)
    assert h.runtime.keys._signer.cache_info().currsize <= before + 1
