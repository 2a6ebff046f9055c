"""Messages for people: within each service's limits, and no text of others is markup or a mention.

Each service has a function that holds a message to that service's documented limits, and reads the
texts of others back out of its markup with a parser that was not made for us.
"""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from orchestrator.api.openapi.examples import DATA
from orchestrator.events.destinations import ResponseClass
from orchestrator.foundation.states import EventType
from tests.events.test_destinations import FAILED, FLAWS, JOB, http, message, target

PAGE = "https://orchestrator.example.com/dashboard/shared/a.b"
SAMPLES = Path(__file__).parents[1] / "samples"
CARDS = jsonschema_rs.Draft6Validator(
    json.loads((SAMPLES / "adaptive_card_1_5.json").read_text(encoding="utf-8"))
)
MARKDOWN = MarkdownIt("gfm-like", {"linkify": False, "html": True})
Json = dict[str, Any]


def units(text: str) -> int:
    """Return the length of a text as most services count it: in units of UTF-16."""
    return len(text.encode("utf-16-le")) // 2


def strings(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if is_list(value) else ():
        yield from strings(item)


def is_list(value: Any) -> bool:
    return isinstance(value, list)


def markdown(text: str, allowed: set[str]) -> None:
    """Hold a text of Markdown to the elements that are ours."""
    for token in MARKDOWN.parse(text):
        for part in (token, *(token.children or ())):
            name = part.type.removesuffix("_open").removesuffix("_close")
            assert name in allowed | {"paragraph", "inline", "text", "softbreak"}, (name, text)
            if part.type == "link_open":
                assert str(part.attrs["href"]).startswith("https://")


def discord(sent: Json) -> None:
    (embed,) = sent["embeds"]
    assert sent["allowed_mentions"] == {"parse": []}
    fields, footer = embed["fields"], embed["footer"]["text"]
    assert units(embed["title"]) <= 256
    assert units(embed["description"]) <= 4096
    assert len(fields) <= 25
    assert all(0 < units(field["value"]) <= 1024 for field in fields)
    counted = [embed["title"], embed["description"], footer, *strings([*fields])]
    assert sum(map(units, counted)) <= 6000
    assert units(embed.get("url", "")) <= 2048
    assert units(embed.get("thumbnail", {}).get("url", "")) <= 2048
    markdown(embed["title"], set())
    markdown(embed["description"], {"blockquote", "strong", "link"})
    for field in fields:
        markdown(field["value"], set())
    for text in (embed["title"], embed["description"], *strings(fields)):
        assert not re.search(r"(?<!\\)(?:\\\\)*@|(?<!\\)(?:\\\\)*<", text)


def teams(sent: Json) -> None:
    (attachment,) = sent["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    # https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-format:
    # `msteams` is Teams's own.
    card = {name: value for name, value in attachment["content"].items() if name != "msteams"}
    CARDS.validate(card)
    assert len(json.dumps(sent, ensure_ascii=False).encode()) < 20_000
    marked = [block["text"] for block in card["body"] if block["type"] in ("TextBlock", "FactSet")]
    # The rest is TextRuns, which have no markup.
    assert [re.sub(r"\([^()]*\)", "()", text) for text in marked] in (
        [],
        ["Link expires {{DATE()}} {{TIME()}}"],
    )


def lark(sent: Json) -> None:
    assert len(json.dumps(sent, ensure_ascii=False).encode()) <= 20 * 1024
    assert sent["msg_type"] == "interactive"
    assert [tag for tag in tags(sent["card"]) if tag not in LARK] == []
    for element in sent["card"]["elements"]:
        for field in element.get("fields", ()):
            marked = field["text"]
            assert marked["tag"] == "lark_md"
            assert re.fullmatch(
                r"\*\*[\w' ]+\*\*\n(?:&#[0-9]+;|[^&<>*@\[\]()`~_#])+", marked["content"]
            )


def test_the_schema_of_cards_refuses_what_is_none() -> None:
    card = {"type": "AdaptiveCard", "version": "1.5", "body": [{"type": "TextBlock", "txt": "a"}]}
    with pytest.raises(jsonschema_rs.ValidationError):
        CARDS.validate(card)


LARK = {"plain_text", "lark_md", "div", "action", "button", "note"}


def tags(value: Any) -> Iterator[str]:
    for item in value.values() if isinstance(value, dict) else value if is_list(value) else ():
        yield from tags(item)
    if isinstance(value, dict) and "tag" in value:
        yield value["tag"]


def dingtalk(sent: Json) -> None:
    assert len(json.dumps(sent, ensure_ascii=False).encode()) <= 20_000
    content = sent[sent["msgtype"]]
    text = content["text"]
    assert "@" not in f"{content['title']}{text}".replace(PAGE, "").replace("https://cdn/", "")
    markdown(text, {"heading", "blockquote", "strong", "image", "bullet_list", "list_item"})
    if sent["msgtype"] == "markdown":
        assert sent["at"] == {"isAtAll": False}


def wecom(sent: Json) -> None:
    content = sent["markdown"]["content"]
    assert len(content.encode()) <= 4096
    first, *others = content.split("\n")
    assert re.fullmatch(r'### <font color="(?:info|comment|warning)">[^<>]*</font>', first)
    assert not [line for line in others if "<" in line or ">" in line.removeprefix("> ")]
    for line in others:
        if not line.startswith(("[Watch video](https://", "[Timeline](https://")):
            assert not re.search(r"[\[\]`@]", line)


class Html(HTMLParser):
    """Collects what a text of HTML shows."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.shown = ""
        self.open = list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("b", "blockquote", "a", "code")
        assert [name for name, _ in attrs] == (["href"] if tag == "a" else [])
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown += data


def telegram(sent: Json) -> None:
    page = Html()
    page.feed(sent["text"])
    page.close()
    assert page.open == []
    assert 0 < units(page.shown) <= 4096
    assert sent["parse_mode"] == "HTML"
    # Telegram knows four entities by name, and numbers.
    assert not re.search(r"&(?!lt;|gt;|amp;|quot;|#)", sent["text"])


def ntfy(sent: Json) -> None:
    assert 0 < len(sent["message"].encode()) <= 4096
    assert 0 < len(sent["title"]) <= 250
    assert sent["priority"] in range(1, 6)
    assert len(sent["actions"]) <= 3
    assert "markdown" not in sent


def pagerduty(sent: Json) -> None:
    assert 0 < len(sent["dedup_key"]) <= 255
    assert sent["event_action"] in ("trigger", "acknowledge", "resolve")
    assert len(json.dumps(sent).encode()) < 512_000
    if sent["event_action"] == "trigger":
        payload = sent["payload"]
        assert 0 < len(payload["summary"]) <= 1024
        assert payload["severity"] in ("critical", "error", "warning", "info")
        assert payload["source"]


SERVICES: Mapping[str, Callable[[Json], None]] = {
    found.__name__: found
    for found in (discord, teams, lark, dingtalk, wecom, telegram, ntfy, pagerduty)
}
PEOPLE = pytest.mark.parametrize("kind", SERVICES)


def sent_by(kind: str, event: str, data: Mapping[str, Any], **values: Any) -> Json:
    request = http(kind).request(target(kind), message(event, data, job_page=PAGE, **values))
    body: Json = json.loads(request.content)
    return body


@PEOPLE
def test_every_event_is_within_the_limits_of_its_service(kind: str) -> None:
    for event in EventType:
        for data in (DATA[event], JOB, FAILED, *FLAWS):
            SERVICES[kind](sent_by(kind, event, data))


HOSTILE = st.one_of(
    st.text(max_size=3000),
    st.lists(
        st.sampled_from(
            ["@everyone", "@here", "<@123>", "<!channel>", "<at id=all></at>", "<at>x</at>", "@all",
             "[a](https://evil)", "![a](https://evil)", "<b>", "</b>", "&lt;", "&#60;", "```", "`",
             "*", "_", "~~", "\n", "\n# ", "\n- ", "> ", "|", "\\", "{{DATE(2026)}}", "${x}", "a",
             "<font color=\"info\">", "\u202e", "🐈", "语", "||spoiler||", "\x00", "a_b", "1. "]
        ),
        max_size=300,
    ).map("".join),
)  # fmt: skip
URLS = st.one_of(HOSTILE.map("https://cdn/".__add__), HOSTILE, st.just("https://cdn/" + "v" * 3000))


@PEOPLE
@given(HOSTILE, HOSTILE, URLS, st.sampled_from(("job.failed", "job.succeeded", "job.expired")))
def test_no_text_of_a_job_is_markup_or_a_mention_or_too_long(
    kind: str, prompt: str, why: str, url: str, event: str
) -> None:
    file = {"url": url, "duration": 5, "expires_at": None}
    error = {"code": why, "message": prompt, "vendor_code": why, "vendor_message": why}
    job = JOB | {
        "id": prompt[:90], "input": {"prompt": prompt, "resolution": why, "image_url": url},
        "model": why, "vendor": prompt, "account": why, "external_task_id": why, "retry_of": why,
        "vendor_task_id": prompt, "resolved_by": why, "error": error,
        "output": {"videos": [file], "images": [file]},
    }  # fmt: skip
    SERVICES[kind](sent_by(kind, event, job))


@PEOPLE
@given(
    HOSTILE,
    HOSTILE,
    st.sampled_from(
        ("account.unauthorized", "account.recovered", "subscriber.disabled", "unknown")
    ),
)
def test_no_text_of_another_event_is_markup_or_a_mention_or_too_long(
    kind: str, name: str, why: str, event: str
) -> None:
    about = {"name": name, "id": why, "url": why, "message": why, "kind": name, "reason": why}
    SERVICES[kind](sent_by(kind, event, about | {"disabled_reason": name}))


@PEOPLE
def test_a_ready_video_shows_what_was_asked_and_its_link(kind: str) -> None:
    text = json.dumps(sent_by(kind, "job.succeeded", JOB), ensure_ascii=False)
    if kind == "pagerduty":
        assert '"resolve"' in text
        return
    assert "a cat surfing" in text
    assert "https://cdn/v.mp4" in text
    assert PAGE in text
    assert "kling" in text


@PEOPLE
def test_a_failure_shows_its_error_and_what_to_do(kind: str) -> None:
    text = json.dumps(sent_by(kind, "job.failed", DATA["job.failed"]), ensure_ascii=False)
    assert "risk control" in text
    assert "orchestrator jobs retry job" in text.replace("\\", "")


# -- what each one does on its own


def test_lark_signs_with_the_text_as_the_key() -> None:
    sent = sent_by("lark", "job.succeeded", JOB)
    assert sent["timestamp"] == "1795168935"
    key = f"{sent['timestamp']}\nlark-signing-secret".encode()
    assert base64.b64decode(sent["sign"]) == hmac.digest(key, b"", "sha256")
    unsigned = http("lark").request(target("lark", credentials={}), message())
    assert b"sign" not in unsigned.content.replace(b"signing", b"")


def test_dingtalk_signs_in_the_query_and_keeps_the_token() -> None:
    address = "https://oapi.dingtalk.com/robot/send?access_token=t%2B1"
    query = http("dingtalk").request(target("dingtalk", address=address), message()).url.params
    assert query["access_token"] == "t+1"
    assert query["timestamp"] == "1795168935900"
    secret = "SEC0123456789abcdef"
    text = f"{query['timestamp']}\n{secret}".encode()
    assert base64.b64decode(query["sign"]) == hmac.digest(secret.encode(), text, "sha256")


def test_telegram_has_its_token_in_the_path_alone() -> None:
    options = {"chat_id": "@renders", "topic": "7"}
    request = http("telegram").request(target("telegram", options=options), message())
    assert request.url.path == "/T0/B0/secret/bot123456:AAh-not-a-real-token/sendMessage"
    sent = json.loads(request.content)
    assert (sent["chat_id"], sent["message_thread_id"]) == ("@renders", 7)
    assert sent["link_preview_options"] == {"is_disabled": True}


@pytest.mark.parametrize(
    ("url", "is_used"),
    [
        ("https://cdn.example.com/v.jpg?a=1", True),
        ("https://xn--bcher-kva.example:8443", True),
        ("https://my_bucket.example.com/v.jpg", False),
        ("http://localhost:8000/v.jpg", False),
        ("http://127.0.0.1/v.jpg", False),
        ("http://[::1]/v.jpg", False),
    ],
)
def test_a_picture_that_would_fail_the_message_is_left_out(url: str, is_used: bool) -> None:
    job = JOB | {"output": {"videos": [{"url": url}], "images": [{"url": url}]}}
    preview = sent_by("telegram", "job.succeeded", job)["link_preview_options"]
    (embed,) = sent_by("discord", "job.succeeded", job)["embeds"]
    assert (preview.get("url") == url) is is_used
    assert ("thumbnail" in embed, "url" in embed) == (is_used, is_used)


@pytest.mark.parametrize(
    ("address", "options", "server", "topic"),
    [
        ("https://ntfy.sh/renders", {}, "https://ntfy.sh/", "renders"),
        ("https://push.example/ntfy/renders/", {}, "https://push.example/ntfy/", "renders"),
        ("https://push.example/ntfy", {"topic": "t"}, "https://push.example/ntfy/", "t"),
        ("http://[::1]:81/renders", {}, "http://[::1]:81/", "renders"),
    ],
)
def test_ntfy_publishes_to_the_root_of_its_server(
    address: str, options: dict[str, str], server: str, topic: str
) -> None:
    request = http("ntfy").request(target("ntfy", address=address, options=options), message())
    assert str(request.url) == server
    assert json.loads(request.content)["topic"] == topic


def test_ntfy_takes_a_token_or_a_user() -> None:
    def header(**credentials: str) -> str | None:
        given = target("ntfy", credentials=credentials)
        headers = http("ntfy").request(given, message()).headers
        return str(headers["authorization"]) if "authorization" in headers else None

    assert header(token="tk_1") == "Bearer tk_1"
    pair = base64.b64encode("müller:p:w".encode()).decode()
    assert header(username="müller", password="p:w") == f"Basic {pair}"
    assert header() is None


def test_ntfy_has_a_title_and_a_priority_of_ones_own() -> None:
    options = {"title": "Render farm", "priority": "5"}
    sent = json.loads(http("ntfy").request(target("ntfy", options=options), message()).content)
    assert (sent["title"], sent["priority"]) == ("Render farm", 5)
    assert sent["message"].startswith("Video ready\na cat surfing")


@pytest.mark.parametrize(
    ("event", "data", "action", "key"),
    [
        ("job.failed", {"id": "job_1"}, "trigger", "job:job_1"),
        ("job.submitted", {"id": "job_2", "retry_of": "job_1"}, "acknowledge", "job:job_1"),
        ("job.succeeded", {"id": "job_2", "retry_of": "job_1"}, "resolve", "job:job_1"),
        ("job.succeeded", {"id": "job_3", "retry_of": "job_2", "retry_root": "job_1"},
         "resolve", "job:job_1"),
        ("job.expired", {"id": "job_1"}, "trigger", "job:job_1"),
        ("job.canceled", {"id": "job_1"}, "resolve", "job:job_1"),
        ("account.exhausted", {"name": "main", "reason": "exhausted"},
         "trigger", "account:main:exhausted"),
        ("account.recovered", {"name": "main", "reason": "exhausted"},
         "resolve", "account:main:exhausted"),
        ("account.push_degraded", {"name": "main"}, "trigger", "account:main:push"),
        ("account.push_recovered", {"name": "main"}, "resolve", "account:main:push"),
        ("subscriber.failing", {"id": "sub_1"}, "trigger", "subscriber:sub_1"),
        ("subscriber.recovered", {"id": "sub_1"}, "resolve", "subscriber:sub_1"),
        ("subscriber.test", {"id": "sub_1"}, "trigger", "test:evt_1"),
    ],
)  # fmt: skip
def test_an_incident_ends_when_what_began_it_is_over(
    event: str, data: Json, action: str, key: str
) -> None:
    sent = sent_by("pagerduty", event, data)
    assert (sent["event_action"], sent["dedup_key"]) == (action, key)
    assert ("payload" in sent) == (action == "trigger")


# -- answers


@pytest.mark.parametrize(
    ("kind", "status", "body", "result", "wait", "error"),
    [
        ("slack", 404, "no_service", "gone", None, None),
        ("discord", 404, {"message": "Unknown Webhook", "code": 10015}, "gone", None, None),
        ("discord", 401, {"message": "Invalid Webhook Token", "code": 50027}, "gone", None, None),
        ("discord", 429, {"retry_after": 0.65, "global": False}, "later", 0.65, None),
        ("discord", 400, {"code": 50035}, "shortly", None, None),
        ("teams", 202, "", "delivered", None, None),
        ("teams", 404, {"error": {"code": "WorkflowNotFound"}}, "gone", None, None),
        ("lark", 200, {"code": 0, "msg": "success"}, "delivered", None, None),
        ("lark", 200, {"StatusCode": 0, "StatusMessage": "success"}, "delivered", None, None),
        ("lark", 200, {"code": 19021, "msg": "sign match fail"}, "shortly", None, "code_19021"),
        ("lark", 400, {"code": 9499, "msg": "Bad Request"}, "shortly", None, "code_9499"),
        ("lark", 200, {"code": 11232, "msg": "frequency limited"}, "later", 15.0, "code_11232"),
        ("lark", 200, {"code": 19001, "msg": "token invalid"}, "gone", None, "code_19001"),
        ("dingtalk", 200, {"errcode": 0, "errmsg": "ok"}, "delivered", None, None),
        ("dingtalk", 200, {"errcode": 310000}, "shortly", None, "code_310000"),
        ("dingtalk", 200, {"errcode": 130101}, "later", 600.0, "code_130101"),
        ("dingtalk", 200, {"errcode": -1}, "later", None, "code_-1"),
        ("dingtalk", 200, {"errcode": 300005}, "gone", None, "code_300005"),
        ("wecom", 200, {"errcode": 0, "errmsg": "ok"}, "delivered", None, None),
        ("wecom", 200, {"errcode": 40058}, "shortly", None, "code_40058"),
        ("wecom", 200, {"errcode": 45009}, "later", 60.0, "code_45009"),
        ("wecom", 200, {"errcode": 93000}, "gone", None, "code_93000"),
        ("telegram", 200, {"ok": True}, "delivered", None, None),
        ("telegram", 403, {"ok": False, "error_code": 403}, "gone", None, None),
        ("telegram", 429, {"ok": False, "parameters": {"retry_after": 7}}, "later", 7.0, None),
        ("telegram", 400, {"ok": False, "description": "chat not found"}, "shortly", None, None),
        ("ntfy", 429, {"code": 42901}, "later", None, None),
        ("ntfy", 507, {"code": 50701}, "later", None, None),
        ("pagerduty", 202, {"status": "success"}, "delivered", None, None),
        ("pagerduty", 429, "", "later", None, None),
        ("pagerduty", 400, {"status": "invalid event"}, "shortly", None, None),
    ],
)  # fmt: skip
def test_an_answer_is_read_as_its_service_means_it(
    kind: str, status: int, body: Any, result: str, wait: float | None, error: str | None
) -> None:
    content = {"text": body} if isinstance(body, str) else {"json": body}
    response, found = httpx.Response(status, **content), http(kind)
    assert found.classify_response(response) == result
    assert (found.wait(response), found.error_code(response)) == (wait, error)


ODD_BODIES = [
    "[]", "null", '"x"', "{", "[" * 5000, '{"code": "x", "errcode": null}', '{"parameters": 1}',
    '{"retry_after": NaN, "parameters": {"retry_after": -1}}', '{"retry_after": true}', "\xff",
    '{"retry_after": 1e999, "parameters": {"retry_after": 1e999}}', '{"code": []}',
]  # fmt: skip
RESULTS = {200: ResponseClass.DELIVERED, 500: ResponseClass.LATER}


@PEOPLE
def test_an_odd_answer_counts_by_its_status(kind: str) -> None:
    for body, (status, result) in itertools.product(ODD_BODIES, RESULTS.items()):
        response = httpx.Response(status, content=body.encode("latin-1"))
        assert http(kind).classify_response(response) is result, body
        assert http(kind).wait(response) in (None, 86400.0), body
        assert http(kind).error_code(response) is None, body
