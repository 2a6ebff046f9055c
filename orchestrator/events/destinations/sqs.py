"""Amazon SQS: SendMessage over the JSON protocol, to standard and FIFO queues.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
A FIFO queue drops a second message with the same `MessageDeduplicationId` for five minutes, and
keeps the order of the messages of a `MessageGroupId`: the job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx

from orchestrator import __version__
from orchestrator.events.destinations import (
    HttpDestination,
    Message,
    Option,
    ResponseClass,
    Target,
    classify,
    post,
)
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.signing.aws_sigv4 import AwsCredentials, sign_post

_AMAZON = re.compile(r"(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.amazonaws\.com(?:\.cn)?")
#: Errors with a status of 400 that pass: https://docs.aws.amazon.com/AWSSimpleQueueService/
#: latest/APIReference/CommonErrors.html
_PASSING = re.compile(r"Throttl|OverLimit|ServiceUnavailable|InternalFailure|RequestExpired")
_DEFAULT_REGION = "us-east-1"


class Sqs(HttpDestination):
    """A queue, by its URL."""

    kind = "sqs"
    example: ClassVar[str] = "https://sqs.eu-west-1.amazonaws.com/123456789012/renders.fifo"
    options: ClassVar[Mapping[str, Option]] = {
        "region": Option("Its region, if the URL does not name it.", pattern="[a-z0-9-]{1,32}")
    }
    credentials: ClassVar[Mapping[str, Option]] = {
        "access_key_id": Option("The id of an access key.", pattern="[!-~]{1,128}", required=True),
        "secret_access_key": Option("Its secret.", pattern="[!-~]{1,256}", required=True),
        "session_token": Option("The token of temporary credentials.", pattern="[!-~]{1,4096}"),
    }

    def recognizes(self, address: str) -> bool:
        return _AMAZON.fullmatch(urlsplit(address).hostname or "") is not None

    def check_address(self, address: str) -> None:
        """Raise `ConfigError` unless the path is an account and a queue."""
        if not re.fullmatch(r"/[^/]+/[A-Za-z0-9_-]{1,80}(\.fifo)?", urlsplit(address).path):
            raise ConfigError(f"the URL of a queue is like {self.example}")

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return a signed SendMessage."""
        url, secret = urlsplit(target.address), target.credentials
        body = json.dumps(_send_message(target.address, message)).encode()
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "x-amz-target": "AmazonSQS.SendMessage",
        }
        signed = sign_post(
            AwsCredentials(
                secret.get("access_key_id", ""),
                secret.get("secret_access_key", ""),
                secret.get("session_token"),
            ),
            region=target.options.get("region") or _region(url.hostname or ""),
            service="sqs",
            host=url.netloc,
            headers=headers,
            body=body,
            at=message.at,
        )
        del signed["host"]
        agent = {"user-agent": f"orchestrator/{__version__}"}
        return post(f"{url.scheme}://{url.netloc}/", signed | agent, body)

    def classify_response(self, response: httpx.Response) -> ResponseClass:
        """Return LATER for errors that pass, which come with a status of 400 too."""
        if response.status_code == 400 and _PASSING.search(_error(response)):
            return ResponseClass.LATER
        return classify(response.status_code)


def _region(host: str) -> str:
    found = _AMAZON.fullmatch(host)
    return (found[1] or found[2]) if found else _DEFAULT_REGION


def _send_message(queue: str, message: Message) -> dict[str, Any]:
    attributes = {"type": message.type, "id": message.event_id}
    body: dict[str, Any] = {
        "QueueUrl": queue,
        "MessageBody": message.body.decode(),
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        },
    }
    if queue.endswith(".fifo"):
        body["MessageDeduplicationId"] = message.event_id
        body["MessageGroupId"] = message.job_id or message.event_id
    return body


def _error(response: httpx.Response) -> str:
    """Return the name of an error, of at most some hundred characters."""
    try:
        answer = json.loads(response.content[:4096])
    except (ValueError, RecursionError):
        return ""
    found = answer.get("__type") if isinstance(answer, Mapping) else None
    return str(found)[:300]
