"""Requests for every operation of the API, pushes and uploads: valid ones, damaged."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from orchestrator.simulator.sample_jobs import SAMPLE_JOBS
from tests.hostile.connection import Request
from tests.hostile.documents import Json, encoded, mutated, value, vendor_document, wide

_ID = "{}_01kb7x3m5tf6a8r2w9n4c1d0eh"
_KEPT = 64
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "QUERY", "get")
_QUERIES = {
    "jobs": ("status", "account", "model", "external_task_id", "resolved_by", "created_after"),
    "events": ("type", "job"),
    "deliveries": ("status", "subscriber", "event"),
}
_MEDIA = (
    "application/json", "application/json; charset=utf-16", "text/plain", "", "application/xml",
    "APPLICATION/JSON;;;", "multipart/form-data", "application/x-www-form-urlencoded",
)  # fmt: skip
_ODD_HEADERS = (
    "prefer: wait=0", "prefer: wait=x", "prefer: wait=-1", "prefer: ,,;=,", "if-none-match: *",
    'if-none-match: "v1", W/"v2"', "if-none-match: \xff", "x-request-id: " + "r" * 300,
    "x-request-id: a b\x7f", "idempotency-key: ", "idempotency-key: " + "i" * 300,
    "idempotency-key: same", "idempotency-key: \xe9", "accept: */*;q=x",
    "accept-encoding: gzip;q=0",
    "content-encoding: gzip", "content-encoding: nope", "range: bytes=5-1", "expect: 100-continue",
    "cookie: a=b; c", "origin: null", "x-forwarded-for: 1.1.1.1, x", "forwarded: for=\"_x", "te: x",
    "last-event-id: evt_x", "authorization: Basic eDp4", "traceparent: 00-zz-1-1", "date: never",
    "upgrade: h2c", "content-type: text/html", "x-http-method-override: DELETE", "host: [::1",
)  # fmt: skip


@dataclass
class Known:
    """What earlier answers revealed: ids by kind, and callback paths."""

    key: str
    peer: str
    accounts: Sequence[str]
    ids: dict[str, deque[str]] = field(default_factory=dict)
    callbacks: deque[str] = field(default_factory=lambda: deque(maxlen=256))

    def learn(self, kind: str, found: str) -> None:
        """Keep an id."""
        self.ids.setdefault(kind, deque(maxlen=_KEPT)).append(found)

    def id(self, rng: random.Random, kind: str) -> str:
        """Return an id: a real one, one of no object, or no id at all."""
        known = self.ids.get(kind)
        how = rng.random()
        if known and how < 0.6:
            return rng.choice(known)
        return _ID.format(kind) if how < 0.8 else _segment(rng)

    def callback(self, rng: random.Random) -> str:
        """Return the path of a callback: a valid one, or a damaged one."""
        if not self.callbacks or rng.random() < 0.02:
            return f"/callbacks/{_segment(rng)}/{_segment(rng)}"
        path = rng.choice(self.callbacks)
        if rng.random() < 0.15:
            place = rng.randrange(len(path))
            return path[:place] + rng.choice(("", "A", "%00", ".", "/", "%2f")) + path[place + 1 :]
        return path


def _segment(rng: random.Random) -> str:
    text = str(value(rng))[:120].encode("utf-8", "surrogatepass")
    return quote(text, safe="") or "x"


def _headers(rng: random.Random, *lines: str) -> list[str]:
    more = [rng.choice(_ODD_HEADERS) for _ in range(rng.choice((0, 0, 0, 1, 2)))]
    if rng.random() < 0.02:
        more += [f"x-{number}: {'v' * rng.randrange(40)}" for number in range(rng.randrange(90))]
    return [*lines, *more]


def _request(
    rng: random.Random, known: Known, name: str, target: str, body: bytes | None = None,
    *, media: str = "application/json", keyed: bool = True, stream: bool = False,
) -> Request:  # fmt: skip
    method = name.split(" ")[0]
    if rng.random() < 0.01:
        method = rng.choice(_METHODS)
    lines = ["host: x"]
    if keyed and rng.random() < 0.98:
        lines.append(f"authorization: Bearer {known.key}")
    lines = _headers(rng, *lines)
    if body is None and rng.random() < 0.03:
        body = encoded(rng, value(rng))
    data = b""
    if body is not None:
        lines.append(f"content-type: {media if rng.random() < 0.95 else rng.choice(_MEDIA)}")
        data, framing = _framed(rng, body)
        lines.append(framing)
    head = "\r\n".join((f"{method} {target} HTTP/1.1", *lines, "", ""))
    # `Expect` and HEAD change what is read from the connection.
    malformed = method in ("HEAD", "get") or "expect: 100-continue" in lines
    return Request(name, head.encode("latin-1", "replace") + data, stream, malformed)


def _framed(rng: random.Random, body: bytes) -> tuple[bytes, str]:
    if rng.random() > 0.1:
        return body, f"content-length: {len(body)}"
    size = rng.choice((1, 7, 4096))
    parts = [body[place : place + size] for place in range(0, len(body), size)][:2000]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return chunks + b"0\r\n\r\n", "transfer-encoding: chunked"


def _order(rng: random.Random, known: Known) -> Json:
    account, _, sample = rng.choice(SAMPLE_JOBS)
    order: Json = {**sample, "account": account}
    if rng.random() < 0.2:
        order["callback_url"] = f"{known.peer}/caller"
    if rng.random() < 0.2:
        order["metadata"] = {"a": value(rng)}
    if rng.random() < 0.02:
        order["input"] = {**order["input"], "extra": {"wide": wide(rng)}}
    return order


def _submit(rng: random.Random, known: Known) -> Request:
    body = encoded(rng, mutated(rng, _order(rng, known)))
    return _request(rng, known, "POST /v1/jobs", "/v1/jobs", body)


def _subscribe(rng: random.Random, known: Known) -> Request:
    body: Json = {"url": f"{known.peer}/hook", "types": ["job.succeeded"], "description": "d",
                  "headers": {"x-a": "b"}, "rate_limit": 5, "max_in_flight": 2,
                  "options": {}}  # fmt: skip
    body["kind"] = rng.choice(("webhook", "webhook", "slack"))
    data = encoded(rng, mutated(rng, body))
    if rng.random() < 0.5:
        return _request(rng, known, "POST /v1/subscribers", "/v1/subscribers", data)
    target = f"/v1/subscribers/{known.id(rng, 'sub')}"
    return _request(rng, known, "PATCH /v1/subscribers/{id}", target, data)


def _unsubscribe(rng: random.Random, known: Known) -> Request:
    subscribers = known.ids.get("sub")
    # Few are kept: every event is delivered to each.
    found = subscribers.popleft() if subscribers and len(subscribers) > 8 else known.id(rng, "sub")
    target = f"/v1/subscribers/{found}"
    return _request(rng, known, "DELETE /v1/subscribers/{id}", target)


def _list(rng: random.Random, known: Known) -> Request:
    name = rng.choice(
        ("jobs", "events", "deliveries", "subscribers", "accounts", "keys", "replays")
    )
    words = (*_QUERIES.get(name, ()), "limit", "after", "x")
    pairs = []
    for _ in range(rng.randrange(4)):
        text = str(rng.choice((value(rng), rng.choice((0, 1, 5, 200, 201)), known.id(rng, "job"))))
        pairs.append(f"{rng.choice(words)}={quote(text.encode('utf-8', 'surrogatepass')[:300])}")
    query = rng.choice(("?", "??", "?&")) + "&".join(pairs) if pairs else ""
    return _request(rng, known, f"GET /v1/{name}", f"/v1/{name}{query}")


def _show(rng: random.Random, known: Known) -> Request:
    path, kind = rng.choice((
        ("jobs/{}", "job"), ("jobs/{}/timeline", "job"), ("jobs/{}/outputs/0", "job"),
        ("events/{}", "evt"), ("replays/{}", "rpl"),
        ("subscribers/{}", "sub"), ("deliveries/{}", "dlv"), ("accounts/{}", "acc"), ("keys/{}",
        "key"),
    ))  # fmt: skip
    found = known.id(rng, kind)
    if kind == "acc" and rng.random() < 0.5:
        found = rng.choice(known.accounts)
    return _request(rng, known, f"GET /v1/{path.format('{id}')}", f"/v1/{path.format(found)}")


#: Actions: path, kind of id, and a valid body.
_ACTIONS: tuple[tuple[str, str, Json], ...] = (
    ("jobs/{}/cancel", "job", {}),
    ("jobs/{}/retry", "job", {}),
    ("events/{}/replay", "evt", {}),
    ("subscribers/{}/pause", "sub", {}),
    ("subscribers/{}/resume", "sub", {}),
    ("subscribers/{}/test", "sub", {}),
    ("subscribers/{}/rotate-secret", "sub", {"grace_seconds": 60}),
    ("subscribers/{}/replay", "sub", {"since": "2026-01-01T00:00:00Z", "status": "dead"}),
    ("deliveries/{}/retry", "dlv", {}),
    ("replays", "rpl", {"status": "dead", "since": "2026-01-01T00:00:00Z"}),
    ("replays/{}/cancel", "rpl", {}),
    ("keys", "key", {"name": "n", "scope": "read"}),
)


def _act(rng: random.Random, known: Known) -> Request:
    path, kind, body = rng.choice(_ACTIONS)
    data = encoded(rng, mutated(rng, body))
    target = f"/v1/{path.format(known.id(rng, kind))}"
    return _request(rng, known, f"POST /v1/{path.format('{id}')}", target, data)


def _query_vendor(rng: random.Random, known: Known) -> Request:
    """A status query waits for its vendor: mostly of no job. Or an account check."""
    if rng.random() < 0.3:
        target = f"/v1/accounts/{rng.choice(known.accounts)}/check"
        return _request(rng, known, "POST /v1/accounts/{name}/check", target, b"{}")
    target = f"/v1/jobs/{_segment(rng)}/refresh"
    return _request(rng, known, "POST /v1/jobs/{id}/refresh", target, encoded(rng, value(rng)))


def _stream(rng: random.Random, known: Known) -> Request:
    query = rng.choice(("", "?types=job.*", f"?types={_segment(rng)}", "?last_event_id=evt_x"))
    target = f"/v1/events/stream{query}"
    return _request(rng, known, "GET /v1/events/stream", target, stream=True)


def _wait(rng: random.Random, known: Known) -> Request:
    wait = rng.choice(("0", "-1", "61", "x", "1e1", "%30", "", "0&wait=0"))
    target = f"/v1/events?wait={wait}&after={known.id(rng, 'evt')}"
    return _request(rng, known, "GET /v1/events?wait", target)


def _push(rng: random.Random, known: Known) -> Request:
    body = encoded(rng, vendor_document(rng))
    if rng.random() < 0.1:
        body = encoded(rng, value(rng))
    target = known.callback(rng)
    return _request(rng, known, "POST /callbacks", target, body, keyed=False)


def _upload(rng: random.Random, known: Known) -> Request:
    fields = {"account": rng.choice(("dreamto", "kling")), "kind": "image", "purpose": "reference"}
    fields = {name: str(mutated(rng, text, 1)) for name, text in fields.items()}
    boundary = rng.choice(("b", "b", "b" * 70, 'b"'))
    parts = [
        f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    ]
    filename = rng.choice(("a.png", "../a", "a\0b", "", "é" * 200, 'a"; x="y'))
    opening = f'content-disposition: form-data; name="file"; filename="{filename}"'
    file = f"--{boundary}\r\n{opening}\r\ncontent-type: image/png\r\n\r\n"
    text = "".join(parts) + file + "\x89" * rng.choice((0, 10, 3000)) + f"\r\n--{boundary}--\r\n"
    body = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        place = rng.randrange(len(body))
        body = body[:place] + rng.choice((b"", b"\0", b"\r\n", b"--b--")) + body[place + 3 :]
    media = f"multipart/form-data; boundary={boundary}"
    return _request(rng, known, "POST /v1/files/upload", "/v1/files/upload", body, media=media)


def _anything(rng: random.Random, known: Known) -> Request:
    start = rng.choice(
        ("/", "/v1/", "/v1/jobs/", "/docs/", "/errors/", "/callbacks/", "//", "/v1//")
    )
    target = start + _segment(rng) + rng.choice(("", "/..", "/%2e%2e/", ";x", "?%", "/" * 50))
    return _request(rng, known, "GET anything", target)


def _no_http(rng: random.Random, known: Known) -> Request:
    lines = (
        b"GET / HTTP/9.9\r\n\r\n", b"GET /\x00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"GET / HTTP/1.1\r\n: empty\r\n\r\n", b"GET  /  HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
    )  # fmt: skip
    return Request("no HTTP", rng.choice(lines) + b"GET / HTTP/1.1\r\n\r\n", malformed=True)


#: Operations, and how often each is drawn.
WEIGHTS: dict[Callable[[random.Random, Known], Request], int] = {
    _submit: 22, _push: 25, _list: 10, _show: 10, _act: 9, _subscribe: 6, _unsubscribe: 3, _wait: 2,
    _query_vendor: 3, _stream: 1, _upload: 5, _anything: 3, _no_http: 1,
}  # fmt: skip


def draw(rng: random.Random, known: Known) -> Request:
    """Return the next request."""
    (make,) = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
    return make(rng, known)
