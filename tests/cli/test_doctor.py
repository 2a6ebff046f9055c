"""`orchestrator doctor`: findings on this machine, of a service, and through the public URL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator.app import callback_endpoint
from orchestrator.cli.doctor import findings, local, public_url
from orchestrator.cli.doctor.findings import Finding, Status, gathered, ok
from orchestrator.events.outbox import NewEvent, publish
from orchestrator.foundation.clock import SystemClock, after, rfc3339
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.signing.secret_keys import Callback
from orchestrator.foundation.signing.standard_webhooks import new_secret, sign
from orchestrator.foundation.states import EventType, Source
from orchestrator.schemas import AccountCheck
from orchestrator.simulator.server import LocalServer
from tests.harness import runtime
from tests.harness.api_caller import KEY, Json, eventually
from tests.harness.command_line import Fake, Ran, account, account_check, job, page, run
from tests.harness.live import Live, live

SECRET = "s3cret-" + "abcdefghijklmnopqrstuvwxyz0123456789"
VENDOR_KEY = "vendor-key-that-is-wrong"


def findings_of(ran: Ran) -> dict[str, Json]:
    """Return the findings of a run by check: the worst of each."""
    order = [*Status]
    # The test's service logs to the same stream.
    document, _ = json.JSONDecoder().raw_decode(ran.out, ran.out.index('{\n  "findings"'))
    worst = [finding["status"] for finding in document["findings"]]
    assert document["problems"] == worst.count("problem")
    assert ran.code == (9 if document["problems"] else 0), ran.out
    ranked = sorted(document["findings"], key=lambda row: order.index(Status(row["status"])))
    return {row["check"]: row for row in ranked}


def settled(monkeypatch: pytest.MonkeyPatch, given: Settings, accounts: Json) -> None:
    """Set the environment to the settings of a service."""
    words = {
        "PUBLIC_URL": given.public_url,
        "PORT": given.public_url.rpartition(":")[2],
        "DATABASE_URL": given.database_url,
        "SECRET_KEYS": json.dumps([key.get_secret_value() for key in given.secret_keys]),
        "API_KEYS": json.dumps([KEY]),
        "ALLOW_PRIVATE": json.dumps(given.allow_private),
        "ACCOUNTS": json.dumps(accounts),
    }
    for name, value in words.items():
        monkeypatch.setenv(f"ORCHESTRATOR_{name}", value)


def described(it: Live) -> Json:
    """Return the accounts of a service as settings."""
    return {
        name: {
            "vendor": one.vendor,
            "base_url": one.base_url,
            "api_key": one.api_key.get_secret_value(),
            "access_key": one.access_key.get_secret_value(),
            "secret_key": one.secret_key.get_secret_value(),
            "options": one.options,
        }
        for name, one in it.runtime.settings.accounts.items()
    }


async def examined(*words: str) -> Ran:
    return await asyncio.to_thread(partial(run, "doctor", *words))


@pytest.mark.usefixtures("everywhere")
async def test_a_healthy_service_has_no_problems_and_no_secret_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live(tmp_path, ["kling", "dreamto"]) as it:
        settled(monkeypatch, it.runtime.settings, described(it))
        found = findings_of(ran := await examined("--json"))
        assert found.pop("secret keys")["status"] == "warning", "the keys of tests are not random"
        if (durability := found.pop("durability", None)) is not None:
            assert durability["found"].startswith("fsync is off"), "as on the server of tests"
        assert not [row for row in found.values() if row["status"] != "ok"]
        wanted = {"configuration", "database", "roles", "server", "server clock", "version"}
        assert found.keys() >= wanted | {
            "account kling",
            "account dreamto",
            "public URL",
            "callbacks",
            "event stream",
        }
        hidden = [text for row in described(it).values() for text in row.values() if len(text) > 15]
        hidden = [text for text in hidden if not text.startswith("http")] + [KEY]
        hidden += [key.get_secret_value() for key in it.runtime.settings.secret_keys]
        assert len(hidden) >= 5
        assert not [text for text in hidden if text in ran.out + ran.err]


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_database_file_that_a_running_service_has_lost_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    async with live(tmp_path, ["kling"]) as it:
        settled(monkeypatch, it.runtime.settings, described(it))
        file, away = tmp_path / "test.db", tmp_path / "away.db"
        file.rename(away)
        if replaced:
            shutil.copy(away, file)
        for _ in range(3):
            found = findings_of(await examined("--json"))
            assert found["database"]["status"] == found["server"]["status"] == "problem"
            assert "test.db: the database file" in found["database"]["found"]
            assert "database: the database file" in found["server"]["found"]
            assert file.exists() == replaced, "nothing is made"


async def test_a_refused_vendor_key_and_an_unreachable_subscriber_are_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live(
        tmp_path, {"kling": {"access_key": "", "secret_key": "", "api_key": VENDOR_KEY}}
    ) as it:
        settled(monkeypatch, it.runtime.settings, described(it))
        gone = await it.api.subscribe("http://127.0.0.1:1/gone")
        off = await it.api.subscribe("http://127.0.0.1:1/off")
        await it.api.call("POST", f"/v1/subscribers/{off['id']}/pause")
        ran = await examined("--json", "--send-test")
        found = findings_of(ran)
        assert found["account kling"]["status"] == "problem"
        assert "Authorization is invalid" in found["account kling"]["found"]
        assert VENDOR_KEY not in ran.out
        assert found[f"subscriber {off['id']}"]["status"] == "warning"
        assert f"resume {off['id']}" in found[f"subscriber {off['id']}"]["fix"]
        assert found[f"subscriber {gone['id']}"]["status"] == "problem"
        assert "connection_refused" in found[f"subscriber {gone['id']}"]["found"]
        later = findings_of(await examined("--json"))
        assert "failing since" in later[f"subscriber {gone['id']}"]["found"]


@pytest.mark.usefixtures("everywhere")
async def test_failing_callbacks_refused_pushes_and_forgotten_jobs_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"signature": "optional", "webhook_secrets": [new_secret()]}
    async with live(tmp_path, {"kling": secret}) as it:
        settled(monkeypatch, it.runtime.settings, described(it))
        gone = "http://127.0.0.1:1/gone?key=opensesame"
        job = await it.api.submit(
            {"model": "kling-v3", "input": {"prompt": "a cat"}, "callback_url": gone}
        )
        headers = sign([new_secret()], "msg_1", it.runtime.clock.now(), b"{}")
        token = it.runtime.keys.mint(
            "kling", Callback(job["id"], 1), after(it.runtime.clock.now(), 60)
        )
        for _ in range(2):
            path = f"/callbacks/kling/{token}"
            pushed = await it.api.http.post(path, content=b"{}", headers=headers)
            assert pushed.status_code == 401
        stuck = NewEvent(EventType.JOB_STUCK, Source.POLL, job)
        now, ids = it.runtime.clock.now(), it.runtime.ids
        await it.runtime.store.write(lambda tx: publish(tx, ids, [stuck, stuck], now))
        await it.api.call("POST", f"/v1/jobs/{job['id']}/cancel")

        async def failed() -> Json | None:
            page = await it.api.get("/v1/subscribers?callbacks=true&failing=true")
            return page["data"][0] if page["data"] else None

        host = await eventually(failed)
        ran = await examined("--json")
        found = findings_of(ran)
        assert "opensesame" not in ran.out
        callbacks = found["callbacks to http://127.0.0.1:1"]
        assert callbacks["status"] == "problem"
        assert "1 address, 1 failed attempts, last: connection_refused" in callbacks["found"]
        assert host["id"] in callbacks["fix"]
        pushes = found["pushes of kling"]
        assert "pushes came and were refused: no signature matches" in pushes["found"]
        assert "webhook_secrets" in pushes["fix"]
        assert "public_url" not in pushes["fix"]
        forgotten = found["jobs of kling"]
        assert forgotten["status"] == "warning"
        assert "did not know 2 jobs" in forgotten["found"]
        assert "jobs show" in forgotten["fix"]
        shown = await asyncio.to_thread(run, "subscribers", "show", host["id"])
        assert "connection_refused" in shown.out


LATER = "2999-01-01T00:00:00.000Z"
HELD = {
    "reason": "exhausted", "since": "2026-11-20T10:00:00.000Z", "message": "no credit",
    "next_check_at": None,
}  # fmt: skip


def aged(seconds: float) -> str:
    return rfc3339(after(SystemClock().now(), -seconds))


@pytest.mark.parametrize(
    ("account_has", "age", "status", "words"),
    [
        ({}, None, None, []),
        ({}, 30, None, []),
        ({"paused_until": LATER}, None, "warning", ["2999-01-01", "no job is queued"]),
        ({"paused_until": LATER}, 90, "warning", ["limits submissions; 2 queued jobs, the oldest"]),
        ({"held": HELD}, 5, "problem", ["held: exhausted since 2026", "no credit; 2 queued"]),
        ({"in_flight": 10}, 300, None, []),
        ({"in_flight": 10}, 900, "warning", ["for 15m 0", "all 10 slots are in use"]),
        ({"in_flight": 4}, 90, "problem", ["for 1m 30s, although 6 slots are free"]),
        ({"rate_limit": 0.1}, 900, "warning", ["0.1 submissions a second"]),
    ],
)
def test_paused_accounts_and_jobs_queued_for_long_are_found(
    fake: Fake, account_has: Json, age: float | None, status: str | None, words: list[str]
) -> None:
    fake.script("GET /readyz", (200, {"status": "ok", "checks": []}))
    fake.script("GET /v1/accounts", (200, page(account("main", **account_has))))
    fake.script("POST /v1/accounts/main/check", (200, account_check("main")))
    fake.script("GET /v1/subscribers", (200, page()))
    fake.script("GET /v1/events", (200, page()))
    rows = [] if age is None else [job("queued", created_at=aged(each)) for each in (1, age)]
    # Not before its start.
    rows += [job("queued", created_at=aged(9000), start_after=LATER)]
    fake.script("GET /v1/jobs", (200, page(*rows)))
    found = findings_of(run("doctor", "--json", "--server", fake.url, "--api-key", KEY))
    queue = found.get("queue of main", {"status": None, "found": ""})
    assert (queue["status"], [word for word in words if word not in queue["found"]]) == (status, [])


async def test_a_file_of_settings_that_is_newer_than_the_server_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = tmp_path / "orchestrator.toml"
    toml.write_text("retention_days = 30\n")
    async with live(tmp_path, ["kling"]) as it:
        settled(monkeypatch, it.runtime.settings, described(it))
        it.runtime.settings._read_at = SystemClock().now()
        before = findings_of(await examined("--json", "--config", str(toml)))
        later = time.time() + 60
        os.utime(toml, (later, later))
        found = findings_of(await examined("--json", "--config", str(toml)))
    assert before["configuration"]["status"] == "ok"
    assert found["configuration"]["status"] == "warning"
    assert f"{toml} changed after the running server had read it" in found["configuration"]["found"]
    assert "restart" in found["configuration"]["fix"]


async def test_the_public_url_is_that_of_the_running_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live(tmp_path, ["kling"]) as it:
        settled(monkeypatch, it.runtime.settings, described(it))
        monkeypatch.setenv("ORCHESTRATOR_PUBLIC_URL", "https://elsewhere.invalid")
        found = findings_of(await examined("--json"))
        for name in ("PUBLIC_URL", "PORT", "DATABASE_URL", "SECRET_KEYS", "API_KEYS", "ACCOUNTS"):
            monkeypatch.delenv(f"ORCHESTRATOR_{name}")
        monkeypatch.delenv("ORCHESTRATOR_ALLOW_PRIVATE")
        server = ("--server", it.url, "--api-key", KEY)
        outside = findings_of(await examined("--json", *server))
    assert found["public URL"]["status"] == "warning"
    assert (
        f"gives vendors {it.url}; the settings here say https://elsewhere.invalid"
        in (found["public URL"]["found"])
    )
    assert found["callbacks"]["status"] == "ok"
    assert outside["callbacks"]["status"] == "ok"
    assert f"{it.url} leads to an orchestrator" in outside["callbacks"]["found"]
    assert f"not set: vendors are given {it.url}" in outside["public URL"]["found"]


def test_without_a_server_it_hints_how_to_start_one_and_checks_vendors_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = {"vendor": "dreamto", "api_key": VENDOR_KEY, "base_url": "http://127.0.0.1:1"}
    monkeypatch.setenv("ORCHESTRATOR_PORT", "1")
    monkeypatch.setenv("ORCHESTRATOR_ALLOW_PRIVATE", '["127.0.0.0/8"]')
    monkeypatch.setenv("ORCHESTRATOR_SECRET_KEYS", json.dumps([SECRET]))
    monkeypatch.setenv("ORCHESTRATOR_ACCOUNTS", json.dumps({"main": account}))
    ran = run("doctor", "--json")
    found = findings_of(ran)
    assert found["server"]["status"] == "problem"
    assert "orchestrator serve" in found["server"]["fix"]
    assert found["account main"]["status"] == "problem"
    assert "not reached" in found["account main"]["found"]
    assert not [name for name in ("callbacks", "version", "subscribers") if name in found]
    assert [one.name for one in Path().iterdir()] == [], "nothing was created"
    monkeypatch.setenv("ORCHESTRATOR_ACCOUNTS", "{}")
    shown = run("doctor")
    assert shown.code == 9
    assert "✗ problem  server" in shown.out
    assert "→ start it: orchestrator serve" in shown.out
    assert "1 problem" in shown.err
    assert run("doctor", "-q").out == "server\n"
    assert SECRET not in shown.out + shown.err + ran.out + ran.err


def test_checks_of_the_server_s_own_machine_are_left_out_elsewhere() -> None:
    found = findings_of(run("doctor", "--json", "--server", "http://127.0.0.1:1"))
    assert found["server"]["status"] == "problem"
    assert "left out" in found["configuration"]["found"]
    assert "database" not in found


def test_every_fault_of_the_settings_is_a_finding() -> None:
    Path("orchestrator.toml").write_text('prt = 1\nhost = ""\n')
    found = json.loads((ran := run("doctor", "--json")).out)["findings"]
    assert ran.code == 9
    assert len(found) == 2
    assert any("did you mean port?" in one["found"] for one in found)


@pytest.mark.parametrize(
    ("variable", "value", "check", "status", "words"),
    [
        ("DATABASE_URL", "sqlite:///nodir/x.db", "database", "problem", "nodir is not there"),
        ("DATABASE_URL", "sqlite:///nodir/x.db", "data folder", "problem", "cannot be written"),
        ("SECRET_KEYS", '["changeme"]', "secret keys", "problem", "public examples"),
        ("SECRET_KEYS", json.dumps(["k" * 40]), "secret keys", "warning", "are not random"),
        ("SECRET_KEYS", '["Q7x.pL2!vb9"]', "secret keys", "warning", "fewer than 32"),
        ("ROLE", "api", "roles", "problem", "SQLite serves one process"),
        ("PUBLIC_URL", "http://10.1.2.3", "public URL", "problem", "no vendor can reach us"),
        ("PUBLIC_URL", "https://nowhere.invalid", "public URL", "problem", "does not resolve"),
        ("ALLOW_PRIVATE", '["127.0.0.0/8"]', "public URL", "problem", "not set"),
        ("ACCOUNTS", '{"a": {"vendor": "nope"}}', "configuration", "problem", "known vendors"),
        ("ACCOUNTS", "{}", "configuration", "warning", "no account"),
    ],
)
def test_faults_of_this_machine_are_findings(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, check: str, status: str, words: str
) -> None:
    # A public vendor, at a name that does not resolve.
    account = {"vendor": "kling", "api_key": "k", "base_url": "https://vendor.invalid"}
    monkeypatch.setenv("ORCHESTRATOR_ACCOUNTS", json.dumps({"main": account}))
    monkeypatch.setenv("ORCHESTRATOR_PORT", "1")
    monkeypatch.setenv(f"ORCHESTRATOR_{variable}", value)
    found = findings_of(run("doctor", "--json"))[check]
    assert (found["status"], words in found["found"]) == (status, True), found
    assert found["fix"]


def test_a_key_file_readable_by_others_is_a_warning() -> None:
    Path("orchestrator.db.keys").write_text(SECRET + "\n")
    Path("orchestrator.db.keys").chmod(0o644)
    found = findings_of(run("doctor", "--json"))["secret keys"]
    assert found["status"] == "warning"
    assert found["fix"].startswith("chmod 600")


@pytest.mark.parametrize(
    ("secret", "mode", "warned"),
    [(True, 0o640, True), (True, 0o644, True), (True, 0o600, False), (False, 0o644, False)],
)
def test_a_settings_file_with_secrets_that_others_can_read_is_a_warning(
    secret: bool, mode: int, warned: bool
) -> None:
    toml = Path("orchestrator.toml")
    toml.write_text("port = 1\n" + (f'api_keys = ["{KEY}"]\n' if secret else ""))
    toml.chmod(mode)
    found = json.loads(run("doctor", "--json").out)["findings"]
    assert any(each["fix"] == "chmod 600 orchestrator.toml" for each in found) is warned
    said = "warning: orchestrator.toml has secrets, and others than its owner can read it"
    assert (said in run("config", "check").err) is warned


@pytest.mark.parametrize(
    ("differs", "status", "words"),
    [
        ({}, "ok", "accepted in 12 ms"),
        (
            {"authorized": False, "status": 401, "vendor_code": 1002},
            "problem",
            "1002: Authorization",
        ),
        ({"authorized": None, "status": 404}, "warning", "unclear"),
        ({"authorized": None, "status": 503}, "problem", "the vendor is failing: 503"),
        ({"reachable": False, "authorized": None, "status": None}, "problem", "not reached: why"),
    ],
)
def test_an_accounts_check_is_a_finding(differs: Json, status: str, words: str) -> None:
    check = account_check("main", detail="why", vendor_code=None, vendor_message="Authorization")
    found = local.account(AccountCheck.model_validate(check | differs))
    assert (found.check, found.status.value) == ("account main", status)
    assert words in found.found
    assert found.fix or status == "ok"


@pytest.mark.parametrize(
    ("skew", "words"), [(None, []), (29.0, []), (31.0, ["31 s ahead"]), (-90.0, ["90 s behind"])]
)
def test_a_vendors_wrong_clock_is_a_problem(skew: float | None, words: list[str]) -> None:
    check = AccountCheck.model_validate(account_check("main", clock_skew_seconds=skew))
    found = [*local.clock_of(check)]
    assert [finding.status for finding in found] == [Status.PROBLEM] * len(words)
    assert all(word in finding.found for finding, word in zip(found, words, strict=True))


def test_a_check_that_hangs_or_fails_does_not_stop_the_others() -> None:
    is_over = threading.Event()

    def broken() -> Iterator[Finding]:
        raise KeyError("orc_secret")

    def refused() -> Iterator[Finding]:
        raise ConfigError("that setting")

    def hanging() -> Iterator[Finding]:
        is_over.wait(30)
        yield ok("never", "")

    found = gathered(
        [
            ("a", broken),
            ("b", hanging),
            ("c", refused),
            ("d", lambda: [ok("d", "well")]),
            ("e", list),
        ],
        0.1,
    )
    is_over.set()
    assert [(one.check, one.status.value) for one in found] == [
        ("a", "problem"), ("b", "problem"), ("c", "problem"), ("d", "ok"),
    ]  # fmt: skip
    assert "orc_secret" not in str(found)
    assert "no result within 0.1 s" in found[1].found
    assert found[2].found == "that setting"
    assert findings.ok("x", "y").shown() == {"check": "x", "status": "ok", "found": "y", "fix": ""}


# -- through the public URL


@contextlib.asynccontextmanager
async def public(
    folder: Path, **handlers: Callable[[Request], Response]
) -> AsyncIterator[Settings]:
    """Serve `stream` and `callback` (default: our own endpoint) behind a public URL."""
    async with runtime.open_harness(folder) as it:
        it.runtime.clock = SystemClock()

        async def stream(request: Request) -> Response:
            return handlers["stream"](request)

        async def callback(request: Request) -> Response:
            return handlers["callback"](request)

        routes = [
            Route("/v1/events/stream", stream),
            Route("/callbacks/{rest:path}", callback, methods=["POST"]),
        ]
        app = Starlette(routes=routes)
        serving = LocalServer(app if "callback" in handlers else callback_endpoint(app, it.runtime))
        await serving.start()
        try:
            yield it.runtime.settings.model_copy(update={"public_url": serving.url})
        finally:
            await serving.stop()


def first_bytes(_: Request) -> Response:
    return PlainTextResponse("retry: 2000\n\n", media_type="text/event-stream")


def held(_: Request) -> Response:
    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.sleep(1)
        yield b"too late"

    return StreamingResponse(nothing(), media_type="text/event-stream")


async def looked(settings: Settings) -> dict[str, Finding]:
    checks = public_url.checks(settings, SystemClock(), running=True)
    found = await asyncio.to_thread(gathered, checks, 5)
    return {finding.check: finding for finding in found}


async def test_a_stream_with_prompt_first_bytes_is_ok(tmp_path: Path) -> None:
    async with public(tmp_path, stream=first_bytes) as settings:
        found = await looked(settings)
    assert found["callbacks"].status is Status.OK
    assert found["event stream"].status is Status.OK


async def test_a_proxy_that_buffers_a_stream_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_url, "_HELD", 0.2)
    async with public(tmp_path, stream=held) as settings:
        found = await looked(settings)
    assert found["event stream"].status is Status.PROBLEM
    assert "proxy_buffering off" in found["event stream"].fix


async def test_a_proxy_that_delays_the_first_bytes_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_url, "_SOON", -1.0)
    async with public(tmp_path, stream=first_bytes) as settings:
        found = await looked(settings)
    assert found["event stream"].status is Status.PROBLEM
    assert "first bytes took" in found["event stream"].found


async def test_a_service_with_other_keys_is_recognised_and_gets_no_pass(tmp_path: Path) -> None:
    async with public(tmp_path, stream=first_bytes) as settings:
        other = runtime.settings(tmp_path, secret_keys=[SECRET], public_url=settings.public_url)
        found = await looked(other)
    assert found["callbacks"].status is Status.PROBLEM
    assert "other secret_keys" in found["callbacks"].found
    assert "event stream" not in found


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            lambda _: RedirectResponse("https://elsewhere.test/callbacks/x", 301),
            "redirects (301) to https://elsewhere",
        ),
        (lambda _: PlainTextResponse("who are you", 401), "requires a login"),
        (lambda _: PlainTextResponse("bad gateway", 502), "a proxy without a server behind it"),
        (lambda _: PlainTextResponse("<h1>not found</h1>", 404), "another server answers"),
        (lambda _: PlainTextResponse("welcome"), "another server answers"),
        (lambda _: PlainTextResponse('{"ok": true, "pong": "made up"}'), "another server answers"),
        (lambda _: PlainTextResponse('["pong"]'), "another server answers"),
    ],
)
async def test_another_server_at_the_public_url_is_identified(
    tmp_path: Path, answer: Callable[[Request], Response], words: str
) -> None:
    async with public(tmp_path, stream=first_bytes, callback=answer) as settings:
        found = await looked(settings)
    assert found["callbacks"].status is Status.PROBLEM
    assert words in found["callbacks"].found
    assert found["callbacks"].fix
    assert "event stream" not in found, "another server gets no pass"


async def test_an_unreachable_public_url_is_a_problem_while_the_service_runs(
    tmp_path: Path,
) -> None:
    found = await looked(runtime.settings(tmp_path, public_url="http://127.0.0.1:1"))
    assert found["callbacks"].status is Status.PROBLEM
    assert "cannot be reached" in found["callbacks"].found
