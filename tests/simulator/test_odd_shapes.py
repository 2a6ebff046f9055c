"""Odd shapes differ from the documented ones, and say the same."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from orchestrator.simulator import Faults
from orchestrator.simulator.json_body import JSON, JsonObject
from orchestrator.simulator.odd_shapes import BOM, odd_answer, odd_body
from tests.simulator.test_faults import calling

ORIGIN = "https://gateway.example.com"
URL = f"{ORIGIN}/files/v.mp4"
VIDEO: JsonObject = {"id": "v1", "url": URL, "duration": "5"}
LEGACY: JsonObject = {"task_id": "901234567890123456", "task_status": "succeed"}
BODIES: dict[str, JSON] = {
    "legacy": {"code": 0, "data": {**LEGACY, "task_result": {"videos": [VIDEO]}}},
    "new": {"code": 0, "data": [{"id": "90", "status": "succeeded", "outputs": [VIDEO]}] * 2},
    "job": {"id": "job_1", "status": "completed", "output": {"videos": [VIDEO]}},
    "video": {"id": "task_1", "status": "completed", "metadata": {"url": URL}},
    "plain video": {"id": "task_1", "status": "completed", "video_url": URL},
    "progress": {"id": "task_1", "status": "in_progress", "progress": 30},
    "failure": {"id": "task_1", "status": "failed", "error": {"message": "blocked"}},
}
#: Values of envelopes. No spelling of a status is exactly one of these.
ENVELOPE = ("OK", "success", "ok", "", 0, 200, True, None)
#: The meaning of a status word in lower case, and of a progress.
SAME = {
    **dict.fromkeys(
        ("succeed", "succeeded", "success", "completed", "task_status_succeed"), "succeeded"
    ),
    **dict.fromkeys(("fail", "failed", "failure", "task_failed"), "failed"),
    **dict.fromkeys(("30", "30.0", "0.3", "30%"), "30"),
}


def leaves(body: JSON) -> Iterator[str]:
    if isinstance(body, dict | list):
        for item in body.values() if isinstance(body, dict) else body:
            yield from leaves(item)
    elif isinstance(body, str) and body.startswith(("{", "[")):
        yield from leaves(json.loads(body))
    elif body not in ENVELOPE:
        text = str(body).strip().lower()
        yield SAME.get(text, f"{ORIGIN}{text}" if text.startswith("/files/") else text)


def meaning(body: JSON) -> Counter[str]:
    return Counter(leaves(body))


@pytest.mark.parametrize("name", BODIES)
def test_an_odd_body_holds_the_same_values(name: str) -> None:
    rng, shapes = random.Random(1), set[str]()
    for _ in range(200):
        odd = odd_body(BODIES[name], rng, ORIGIN)
        assert meaning(odd) == meaning(BODIES[name]), odd
        shapes.add(json.dumps(odd))
    assert len(shapes) > 30


def test_the_seed_decides_and_the_documented_body_is_not_changed() -> None:
    before = json.dumps(BODIES)
    for body in BODIES.values():
        first, second = (odd_body(body, random.Random(2), ORIGIN) for _ in range(2))
        assert first == second
    assert json.dumps(BODIES) == before


@pytest.mark.parametrize("body", [{}, [], {"code": 0, "data": []}, {"error": {"code": 1}}])
def test_a_body_without_a_task_stays_as_it_is(body: JSON) -> None:
    assert all(odd_body(body, random.Random(seed)) == body for seed in range(20))


def test_the_bytes_of_an_answer_are_compressed_marked_and_almost_json() -> None:
    rng, seen = random.Random(3), Counter[str]()
    decoders: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.decompress,
        "deflate": zlib.decompress,
    }
    for _ in range(200):
        content, headers = odd_answer(BODIES["job"], rng)
        encoding = headers.get("content-encoding", "")
        plain = decoders[encoding](content) if encoding else content
        seen[encoding] += 1
        seen["mark"] += plain.startswith(BOM)
        body = json.loads(plain.removeprefix(BOM))
        score = body.pop("score", None) if isinstance(body, dict) else None
        seen[f"score {score}"] += 1
        assert meaning(body) == meaning(BODIES["job"])
    expected = {"", "gzip", "deflate", "mark", "score None", "score nan", "score inf"}
    assert {name for name, times in seen.items() if times} == expected


@pytest.mark.parametrize("vendor", ["kling", "kling_v2", "dreamto", "cubicspaces", "agentsflare"])
async def test_answers_and_pushes_take_odd_shapes(vendor: str) -> None:
    shapes: list[list[bytes]] = []
    for faults in (Faults(), Faults(odd_shapes=1)):
        async with calling(faults, seed=5) as caller:
            answer = await caller.submit(vendor)
            assert answer.status_code == 200
            await caller.vendors.idle()
            shapes.append([answer.content, *(push.body for push in caller.vendors.pushes)])
            assert all(push.status == 200 for push in caller.vendors.pushes)
            assert not caller.vendors.violations
    assert shapes[0][0] != shapes[1][0]
    assert len(shapes[0]) == len(shapes[1])
