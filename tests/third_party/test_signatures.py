"""Subscribers verify with whatever library they have: every genuine delivery is believed, and nothing else is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import svix.webhooks
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from orchestrator.foundation.signing.standard_webhooks import new_secret, sign
from tests.harness.api_caller import until
from tests.harness.live import live, order
from tests.third_party import go, node
from tests.third_party.doorstep import Doorstep, Put, doorstep


@dataclass(frozen=True)
class Delivery:
    """What a subscriber holds: the secret it was given, and what came."""

    secret: str
    headers: dict[str, str]
    body: bytes

    def changed(self, **headers: str) -> Delivery:
        """Return it with other headers, `webhook_id="x"` as `webhook-id: x`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers=self.headers | named)

    def shown(self) -> dict[str, Any]:
        """Return it for another process."""
        return {"secret": self.secret, "headers": self.headers, "body": self.body.decode()}


async def made(folder: Path) -> dict[str, Delivery]:
    """Have the service make a delivery of each kind."""
    async with doorstep() as door, live(folder) as it:
        secrets = {}
        for path, more in (
            ("/standard", {}),
            ("/cloudevents", {"options": {"format": "cloudevents"}}),
            ("/rotated", {}),
        ):
            subscriber = await it.api.subscribe(door.url + path, "job.succeeded", **more)
            secrets[path] = subscriber["secret"]
        answer = await it.api.call(
            "POST", f"/v1/subscribers/{subscriber['id']}/rotate-secret", {"grace_seconds": 60}
        )
        secrets["/rotated by its new secret"] = answer.json()["secret"]
        secrets["/callback_url"] = (await it.api.get("/v1/signing-key"))["secret"]
        await it.api.submit(order("kling", callback_url=door.url + "/callback_url"))
        found = {
            name: await until(partial(came, door, name), f"a delivery to {name}")
            for name in secrets
        }
    return {name: Delivery(secrets[name], one.headers, one.body) for name, one in found.items()}


def came(door: Doorstep, name: str) -> Put | None:
    """Return the delivery to the path that a name begins with."""
    return next(iter(door.at(name.partition(" ")[0])), None)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Delivery]:
    """What the service delivers, by what it was delivered to."""
    return asyncio.run(made(tmp_path_factory.mktemp("deliveries")))


@pytest.fixture(scope="module")
def forged(genuine: dict[str, Delivery]) -> dict[str, Delivery]:
    """What it does not."""
    one = genuine["/standard"]
    old = datetime.now(UTC) - timedelta(minutes=6)
    resigned = sign([one.secret], one.headers["webhook-id"], old, one.body)
    return {
        "signed with another secret": replace(one, secret=new_secret()),
        "another body": replace(one, body=one.body.replace(b"succeeded", b"succeedeD")),
        "another id": one.changed(webhook_id="evt_01m7xg8zneew6v9wgm06s8479n"),
        "another time": one.changed(
            webhook_timestamp=str(int(one.headers["webhook-timestamp"]) + 1)
        ),
        "six minutes old": replace(one, headers=one.headers | resigned),
        "somebody else's signature": one.changed(
            webhook_signature=genuine["/callback_url"].headers["webhook-signature"]
        ),
        "a signature of another version": one.changed(
            webhook_signature="v2" + one.headers["webhook-signature"][2:]
        ),
    }


def in_python(believe: Callable[[Delivery], object], one: Delivery) -> bool:
    """True if a library for Python believes a delivery."""
    try:
        believe(one)
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


LIBRARIES: dict[str, Callable[[Delivery], object]] = {
    "standardwebhooks": lambda one: standardwebhooks.Webhook(one.secret).verify(
        one.body, one.headers
    ),
    "svix": lambda one: svix.webhooks.Webhook(one.secret).verify(one.body, one.headers),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_for_python_believe_every_delivery_and_no_forgery(
    library: str, genuine: dict[str, Delivery], forged: dict[str, Delivery]
) -> None:
    believe = LIBRARIES[library]
    assert {name: in_python(believe, one) for name, one in genuine.items()} == dict.fromkeys(
        genuine, True
    )
    assert {name: in_python(believe, one) for name, one in forged.items()} == dict.fromkeys(
        forged, False
    )


async def test_libraries_for_node_believe_every_delivery_and_no_forgery(
    genuine: dict[str, Delivery], forged: dict[str, Delivery]
) -> None:
    said = await elsewhere(
        {**genuine, **forged}, await asyncio.to_thread(node.packages), *node.script("verify.mjs")
    )
    right = dict.fromkeys(genuine, True) | dict.fromkeys(forged, False)
    assert said == {"standardwebhooks for Node": right, "svix for Node": right}


@pytest.mark.timeout(600)
async def test_the_library_for_go_believes_every_delivery_and_no_forgery(
    tmp_path: Path, genuine: dict[str, Delivery], forged: dict[str, Delivery]
) -> None:
    said = await elsewhere({**genuine, **forged}, tmp_path, await asyncio.to_thread(go.verifier))
    assert said == {
        "standardwebhooks for Go": dict.fromkeys(genuine, True) | dict.fromkeys(forged, False)
    }


async def elsewhere(
    deliveries: dict[str, Delivery], folder: Path, *words: str
) -> dict[str, dict[str, bool]]:
    """Return which deliveries each library believes, by its name, as a program in another language says."""
    shown = json.dumps([one.shown() for one in deliveries.values()])
    said = json.loads(await node.ran(folder, *words, given=shown))
    return {
        library: dict(zip(deliveries, believed, strict=True)) for library, believed in said.items()
    }


def test_the_sdk_of_cloudevents_reads_what_is_delivered_in_that_format(
    genuine: dict[str, Delivery],
) -> None:
    one = genuine["/cloudevents"]
    read = from_http_event(HTTPMessage(one.headers, one.body))
    assert read.get_type() == "job.succeeded"
    assert read.get_id() == one.headers["webhook-id"]
    data = read.get_data()
    assert isinstance(data, dict)
    assert read.get_subject() == data["id"]
    assert data["status"] == "succeeded"
