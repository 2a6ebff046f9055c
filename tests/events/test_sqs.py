"""SQS: a signature as Amazon's own library makes it, and real queues of a server of moto.

These libraries take a quarter of a second to import, so only the tests that use them do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from orchestrator.events.destinations import Message, ResponseClass, Target
from orchestrator.events.destinations.sqs import Sqs
from orchestrator.foundation.signing.aws_sigv4 import AwsCredentials, sign_post

KEYS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG"}
AT = datetime(2026, 11, 20, 10, 2, 15, tzinfo=UTC)


def message(
    event_id: str = "evt_1", job_id: str | None = "job_1", text: str = "a cat 🐈"
) -> Message:
    body = json.dumps({"id": event_id, "type": "job.succeeded", "data": {"prompt": text}}).encode()
    return Message(event_id, "job.succeeded", body, AT, job_id)


@pytest.mark.parametrize("token", [None, "a-session"])
def test_the_signature_is_that_of_amazons_library(
    monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    import botocore.auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": "AmazonSQS.SendMessage",
    }
    host, body = "sqs.eu-west-1.amazonaws.com", b'{"QueueUrl":"x"}'
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: AT.replace(tzinfo=None))
    oracle = AWSRequest("POST", f"https://{host}/", headers=headers, data=body)
    secrets = Credentials(KEYS["access_key_id"], KEYS["secret_access_key"], token)
    botocore.auth.SigV4Auth(secrets, "sqs", "eu-west-1").add_auth(oracle)
    ours = sign_post(
        AwsCredentials(**KEYS, session_token=token),
        region="eu-west-1", service="sqs", host=host, headers=headers, body=body, at=AT,
    )  # fmt: skip
    assert ours["authorization"] == oracle.headers["Authorization"]
    assert ours.get("x-amz-security-token") == token


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def queues(server: str) -> Any:
    from botocore.session import get_session

    return get_session().create_client(
        "sqs", region_name="us-east-1", endpoint_url=server,
        aws_access_key_id=KEYS["access_key_id"], aws_secret_access_key=KEYS["secret_access_key"],
    )  # fmt: skip


def send(queue: str, sent: Message) -> httpx.Response:
    request = Sqs().request(Target(queue, credentials=KEYS), sent)
    return httpx.Client(trust_env=False).send(request)


def received(queues: Any, queue: str) -> list[dict[str, Any]]:
    answer = queues.receive_message(
        QueueUrl=queue,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        AttributeNames=["All"],
    )
    found: list[dict[str, Any]] = answer.get("Messages", [])
    return found


def test_a_fifo_queue_drops_the_repeat_and_keeps_a_jobs_group(queues: Any) -> None:
    queue = queues.create_queue(QueueName="renders.fifo", Attributes={"FifoQueue": "true"})[
        "QueueUrl"
    ]
    first, again = send(queue, message()), send(queue, message())
    assert (first.status_code, again.status_code) == (200, 200), first.text
    send(queue, message("evt_2", job_id=None))
    mine, other = received(queues, queue)
    assert mine["Body"].encode() == message().body
    assert mine["MessageAttributes"]["id"]["StringValue"] == "evt_1"
    assert [one["Attributes"]["MessageGroupId"] for one in (mine, other)] == ["job_1", "evt_2"]


def test_a_standard_queue_takes_it_too(queues: Any) -> None:
    queue = queues.create_queue(QueueName="renders")["QueueUrl"]
    assert json.loads(send(queue, message()).content)["MessageId"]
    assert [one["Body"].encode() for one in received(queues, queue)] == [message().body]


def test_a_missing_queue_is_misconfigured(server: str) -> None:
    answer = send(f"{server}/123456789012/absent", message())
    assert answer.status_code == 400
    assert Sqs().classify_response(answer) is ResponseClass.SHORTLY


@pytest.mark.parametrize(
    ("error", "result"),
    [
        ("com.amazonaws.sqs#RequestThrottled", ResponseClass.LATER),
        ("com.amazonaws.sqs#OverLimit", ResponseClass.LATER),
        ("com.amazon.coral.service#InvalidClientTokenId", ResponseClass.SHORTLY),
        (["deep"], ResponseClass.SHORTLY),
    ],
)
def test_errors_that_pass_are_retried_for_days(error: object, result: ResponseClass) -> None:
    answer = httpx.Response(400, json={"__type": error})
    assert Sqs().classify_response(answer) is result
    assert Sqs().classify_response(httpx.Response(400, content=b"\xff[")) is ResponseClass.SHORTLY


def test_amazons_queues_are_recognized_with_their_region() -> None:
    assert Sqs().recognizes("https://sqs.eu-west-1.amazonaws.com/1/q.fifo")
    assert not Sqs().recognizes("https://sqs.eu-west-1.amazonaws.com.evil.example/1/q")
    request = Sqs().request(Target(Sqs.example, credentials=KEYS), message())
    assert "/eu-west-1/sqs/aws4_request" in request.headers["authorization"]
    assert str(request.url) == "https://sqs.eu-west-1.amazonaws.com/"
