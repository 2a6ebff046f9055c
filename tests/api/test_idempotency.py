"""`Idempotency-Key`: a submission that is sent twice creates one job."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.api.auth.api_keys import Scope
from orchestrator.api.idempotency import fingerprints
from orchestrator.database.tables import job
from orchestrator.foundation.states import JobState
from tests.api.test_support import BODY, calling, submitted

pytestmark = pytest.mark.usefixtures("everywhere")


@pytest.mark.parametrize("second", ["k-1", '"k-1"'])
async def test_the_same_key_and_body_are_the_same_job(tmp_path: Path, second: str) -> None:
    async with calling(tmp_path) as api:
        first = await api.call("POST", "/v1/jobs", 202, BODY, headers={"idempotency-key": "k-1"})
        reordered = json.dumps(dict(reversed(BODY.items())), indent=2)
        again = await api.call(
            "POST", "/v1/jobs", 202, content=reordered, headers={"idempotency-key": second}
        )
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert first.json() == again.json()
        assert len(await api.rows("job")) == 1


async def test_the_same_body_is_the_same_job_on_either_side_of_1_mib(tmp_path: Path) -> None:
    """Larger bodies hold references in place of images."""
    image = base64.b64encode(bytes(range(256)) * 99).decode()
    masks = [{"mask": image, "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}]
    images = {"image_url": image, "dynamic_masks": masks}
    body = BODY | {"input": BODY["input"] | images}
    small = json.dumps(body)
    forms = [small, small.replace("/", r"\/"), small.replace("+", r"\u002B")]
    forms += [" " * 1_040_000 + form for form in forms]
    assert len(forms[-1]) > 1 << 20 > len(small)
    async with calling(tmp_path) as api:
        for number, first in enumerate((forms[0], forms[-1])):
            headers = {"idempotency-key": f"k-{number}"}
            made = [
                (await api.call("POST", "/v1/jobs", 202, content=form, headers=headers)).json()
                for form in (first, *forms)
            ]
            assert len({one["id"] for one in made}) == 1
        older = fingerprints(api.runtime.keys, body)[0]
        await api.run(sa.update(job).values(fingerprint=older))
        again = await api.call("POST", "/v1/jobs", 202, content=small, headers=headers)
        assert again.headers["idempotent-replayed"] == "true"


async def test_the_same_key_with_another_body_is_refused(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        headers = {"idempotency-key": "k-1"}
        first = await api.post("/v1/jobs", 202, BODY, headers=headers)
        refused = await api.post("/v1/jobs", 422, BODY | {"model": "other"}, headers=headers)
        assert (refused["code"], refused["job_id"]) == ("idempotency_key_reused", first["id"])
        assert refused["errors"] == [
            {"pointer": "", "code": refused["code"], "message": refused["detail"]}
        ]


async def test_idempotency_keys_are_scoped_to_the_caller(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        first = await api.post("/v1/jobs", 202, BODY, headers={"idempotency-key": "k"})
        other = await api.post(
            "/v1/jobs", 202, BODY, headers={"idempotency-key": "k", **await api.key(Scope.WRITE)}
        )
        assert first["id"] != other["id"]


async def test_an_external_id_is_unique_in_an_account(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        first = await submitted(api, external_task_id="order-1")
        refused = await api.post("/v1/jobs", 409, BODY | {"external_task_id": "order-1"})
        assert (refused["code"], refused["job_id"]) == ("external_task_id_taken", first["id"])


async def test_concurrent_submissions_create_one_job_each_and_one_per_key(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        alone = [api.post("/v1/jobs", 202, BODY) for _ in range(50)]
        shared = [
            api.post("/v1/jobs", 202, BODY, headers={"idempotency-key": "k"}) for _ in range(50)
        ]
        jobs = await asyncio.gather(*alone, *shared)
        assert len({job["id"] for job in jobs}) == len(await api.rows("job")) == 51


async def test_a_key_is_valid_for_its_path_alone(tmp_path: Path) -> None:
    """The same key makes one job by submission, and one by each retry, however often it is sent."""
    async with calling(tmp_path) as api:
        headers = {"idempotency-key": "k"}
        first = await api.post("/v1/jobs", 202, BODY, headers=headers)
        other = await submitted(api)
        made = {first["id"], other["id"]}
        for old in (first, other):
            await api.finish(old["id"], JobState.FAILED)
            path = f"/v1/jobs/{old['id']}/retry"
            retried = await api.call("POST", path, 202, headers=headers)
            again = await api.call("POST", path, 202, headers={"idempotency-key": '"k"'})
            assert "idempotent-replayed" not in retried.headers
            assert (again.headers["idempotent-replayed"], again.json()) == ("true", retried.json())
            made.add(retried.json()["id"])
        assert {row["id"] for row in await api.rows("job")} == made
        assert len(made) == 4


@pytest.mark.parametrize(("body", "status"), [({"model": 5}, 422), ({"account": "nobody"}, 422)])
async def test_a_refused_request_does_not_use_up_its_key(
    tmp_path: Path, body: dict[str, Any], status: int
) -> None:
    async with calling(tmp_path) as api:
        headers = {"idempotency-key": "k"}
        await api.post("/v1/jobs", status, BODY | body, headers=headers)
        assert await api.rows("job") == []
        assert (
            "idempotent-replayed"
            not in (await api.call("POST", "/v1/jobs", 202, BODY, headers=headers)).headers
        )
