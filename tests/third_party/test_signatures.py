"""Third-party webhook libraries accept every genuine delivery and reject every forgery."""

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
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from orchestrator.foundation.signing.standard_webhooks import new_secret, sign
from tests.harness.api_caller import until
from tests.harness.live import live, order
from tests.third_party import go, node
from tests.third_party.delivery_sink import DeliverySink, ReceivedDelivery, delivery_sink


@dataclass(frozen=True)
class Delivery:
    """A subscriber's secret and a delivery."""

    secret: str
    headers: dict[str, str]
    body: bytes

    def changed(self, **headers: str) -> Delivery:
        """Return a copy with other headers, `webhook_id="x"` as `webhook-id: x`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers=self.headers | named)

    def as_json(self) -> dict[str, Any]:
        """Return the delivery as JSON for another process."""
        return {"secret": self.secret, "headers": self.headers, "body": self.body.decode()}


async def make_deliveries(folder: Path) -> dict[str, Delivery]:
    """Let the service make a delivery of each kind."""
    async with delivery_sink() as sink, live(folder) as it:
        secrets = {}
        for path, more in (
            ("/standard", {}),
            ("/cloudevents", {"options": {"format": "cloudevents"}}),
            ("/rotated", {}),
        ):
            subscriber = await it.api.subscribe(sink.url + path, "job.succeeded", **more)
            secrets[path] = subscriber["secret"]
        answer = await it.api.call(
            "POST", f"/v1/subscribers/{subscriber['id']}/rotate-secret", {"grace_seconds": 60}
        )
        secrets["/rotated by its new secret"] = answer.json()["secret"]
        secrets["/callback_url"] = (await it.api.get("/v1/signing-key"))["secret"]
        await it.api.submit(order("kling", callback_url=sink.url + "/callback_url"))
        found = {
            name: await until(partial(delivery_to, sink, name), f"a delivery to {name}")
            for name in secrets
        }
    return {
        name: Delivery(secrets[name], delivery.headers, delivery.body)
        for name, delivery in found.items()
    }


def delivery_to(sink: DeliverySink, name: str) -> ReceivedDelivery | None:
    """Return the delivery to the path that a name begins with."""
    return next(iter(sink.to_path(name.partition(" ")[0])), None)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Delivery]:
    """Genuine deliveries by name."""
    return asyncio.run(make_deliveries(tmp_path_factory.mktemp("deliveries")))


@pytest.fixture(scope="module")
def forged(genuine: dict[str, Delivery]) -> dict[str, Delivery]:
    """Forged deliveries by name."""
    delivery = genuine["/standard"]
    old = datetime.now(UTC) - timedelta(minutes=6)
    resigned = sign([delivery.secret], delivery.headers["webhook-id"], old, delivery.body)
    return {
        "signed with another secret": replace(delivery, secret=new_secret()),
        "another body": replace(delivery, body=delivery.body.replace(b"succeeded", b"succeedeD")),
        "another id": delivery.changed(webhook_id="evt_01m7xg8zneew6v9wgm06s8479n"),
        "another time": delivery.changed(
            webhook_timestamp=str(int(delivery.headers["webhook-timestamp"]) + 1)
        ),
        "six minutes old": replace(delivery, headers=delivery.headers | resigned),
        "the signature of another subscriber": delivery.changed(
            webhook_signature=genuine["/callback_url"].headers["webhook-signature"]
        ),
        "a signature of another version": delivery.changed(
            webhook_signature="v2" + delivery.headers["webhook-signature"][2:]
        ),
    }


def accepts(verify: Callable[[Delivery], object], delivery: Delivery) -> bool:
    """True if a Python library accepts a delivery."""
    try:
        verify(delivery)
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


def by_svix(delivery: Delivery) -> None:
    # Its import takes a quarter of a second, in every worker.
    from svix.webhooks import Webhook

    Webhook(delivery.secret).verify(delivery.body, delivery.headers)


LIBRARIES: dict[str, Callable[[Delivery], object]] = {
    "standardwebhooks": lambda delivery: standardwebhooks.Webhook(delivery.secret).verify(
        delivery.body, delivery.headers
    ),
    "svix": by_svix,
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_python_libraries_accept_every_delivery_and_no_forgery(
    library: str, genuine: dict[str, Delivery], forged: dict[str, Delivery]
) -> None:
    verify = LIBRARIES[library]
    assert {name: accepts(verify, delivery) for name, delivery in genuine.items()} == dict.fromkeys(
        genuine, True
    )
    assert {name: accepts(verify, delivery) for name, delivery in forged.items()} == dict.fromkeys(
        forged, False
    )


async def test_node_libraries_accept_every_delivery_and_no_forgery(
    genuine: dict[str, Delivery], forged: dict[str, Delivery]
) -> None:
    verdicts = await verified_by_program(
        {**genuine, **forged},
        await asyncio.to_thread(node.packages),
        *node.script_command("verify.mjs"),
    )
    expected = dict.fromkeys(genuine, True) | dict.fromkeys(forged, False)
    assert verdicts == {"standardwebhooks for Node": expected, "svix for Node": expected}


@pytest.mark.timeout(600)
async def test_the_go_library_accepts_every_delivery_and_no_forgery(
    tmp_path: Path, genuine: dict[str, Delivery], forged: dict[str, Delivery]
) -> None:
    verdicts = await verified_by_program(
        {**genuine, **forged}, tmp_path, await asyncio.to_thread(go.verifier)
    )
    assert verdicts == {
        "standardwebhooks for Go": dict.fromkeys(genuine, True) | dict.fromkeys(forged, False)
    }


async def verified_by_program(
    deliveries: dict[str, Delivery], folder: Path, *command: str
) -> dict[str, dict[str, bool]]:
    """Return by library which deliveries a program in another language accepts."""
    as_json = json.dumps([delivery.as_json() for delivery in deliveries.values()])
    verdicts = json.loads(await node.run_command(folder, *command, stdin=as_json))
    return {
        library: dict(zip(deliveries, believed, strict=True))
        for library, believed in verdicts.items()
    }


def test_the_cloudevents_sdk_parses_a_delivery_in_that_format(genuine: dict[str, Delivery]) -> None:
    delivery = genuine["/cloudevents"]
    read = from_http_event(HTTPMessage(delivery.headers, delivery.body))
    assert read.get_type() == "job.succeeded"
    assert read.get_id() == delivery.headers["webhook-id"]
    data = read.get_data()
    assert isinstance(data, dict)
    assert read.get_subject() == data["id"]
    assert data["status"] == "succeeded"
