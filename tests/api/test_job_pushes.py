"""The pushes of a job over HTTP: as received, for those who may write, without tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.auth.api_keys import Scope
from orchestrator.database.tables import push
from tests.api.test_support import Caller, calling, submitted
from tests.harness.filled_database import insert

pytestmark = pytest.mark.usefixtures("everywhere")
TOKEN = "WyJqb2JfMDEiLDJd.c2lnbmF0dXJl"


async def pushed(api: Caller, job_id: str, *bodies: bytes) -> list[str]:
    """Store pushes of a job; return their ids."""
    rows: list[dict[str, Any]] = [
        {
            "id": api.runtime.ids("psh"), "account": "main", "job_id": job_id, "attempt": 1,
            "received_at": api.clock.now(), "dedupe_key": str(number), "verified": False,
            "headers": {"content-type": "application/json"}, "body": body, "copies": 2,
            "outcome": "rejected: no signature matches",
        }
        for number, body in enumerate(bodies)
    ]  # fmt: skip
    await insert(api, push, rows)
    return [row["id"] for row in rows]


async def test_pushes_are_shown_as_received_without_tokens(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = (await submitted(api))["id"]
        bodies = [
            json.dumps({"callback_url": f"https://h/callbacks/main/{TOKEN}", "n": 1}).encode(),
            b"\xff\x00 not JSON",
            b"",
        ]
        ids = await pushed(api, job, *bodies)
        await pushed(api, (await submitted(api))["id"], b"other")
        path = f"/v1/jobs/{job}/pushes"
        page = await api.get(path)
        assert [one["id"] for one in page["data"]] == ids[::-1]
        empty, binary, first = page["data"]
        assert (empty["body"], empty["bytes"], binary["bytes"]) == ("", 0, len(bodies[1]))
        assert binary["body"] == "\ufffd\x00 not JSON"
        assert TOKEN not in json.dumps(page)
        assert '"n": 1' in first["body"]
        assert (first["outcome"], first["copies"]) == ("rejected: no signature matches", 2)
        part = await api.get(f"{path}?limit=2")
        rest = await api.get(f"{path}?limit=2&after={part['next_cursor']}")
        assert [one["id"] for one in part["data"] + rest["data"]] == ids[::-1]
        await api.get(path, 403, headers=await api.key(Scope.READ))
        await api.get(path, 200, headers=await api.key(Scope.WRITE))
        await api.get(f"/v1/jobs/{api.runtime.ids('job')}/pushes", 404)
        await api.get(f"{path}?after={job}", 422)
