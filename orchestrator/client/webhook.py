"""Verification of signed deliveries (Standard Webhooks)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from pydantic import ValidationError

from orchestrator.client.errors import NotOurs
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.errors import BadSignature, ConfigError
from orchestrator.foundation.signing import standard_webhooks
from orchestrator.schemas import Event

_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


class Webhook:
    """Verifies deliveries with a subscriber's secret; during a rotation with both secrets.

    Deliveries to a job's own `callback_url` are signed with `client.signing_key()`. `verify` takes
    the body as it came, byte for byte:

        webhook = Webhook(os.environ["WEBHOOK_SECRET"])

        event = webhook.verify(request.get_data(), request.headers)      # Flask
        event = webhook.verify(await request.body(), request.headers)    # Starlette, FastAPI
        event = webhook.verify(request.body, request.headers)            # Django
    """

    def __init__(self, secrets: str | Iterable[str]) -> None:
        """Raise `ConfigError` if there is no secret, or a secret is invalid."""
        self._secrets = (secrets,) if isinstance(secrets, str) else tuple(secrets)
        if not self._secrets:
            raise ConfigError("a webhook needs the subscriber's secret: whsec_...")
        for secret in self._secrets:
            standard_webhooks.key_bytes(secret)

    def __repr__(self) -> str:
        return f"<Webhook with {len(self._secrets)} secret{'' if len(self._secrets) == 1 else 's'}>"

    def verify(
        self,
        body: bytes,
        headers: Mapping[str, str] | Iterable[tuple[str, str]],
        *,
        now: datetime | None = None,
    ) -> Event:
        """Return the delivered event. The case of header names does not matter.

        Raises `BadSignature`, with the reason, if a header is missing or malformed, the timestamp
        is more than five minutes away, or no secret matches: answer 401. Raises `NotOurs` for a
        signed body that is no event. `event.id` is the same in every attempt of a delivery: skip
        an event whose id is already processed.
        """
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(
                "verify needs the raw body in bytes: text or parsed JSON is not what was signed"
            )
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        signature = {name.lower(): value for name, value in pairs if name.lower() in _HEADERS}
        now = now or SystemClock().now()
        if not standard_webhooks.verify(self._secrets, signature, bytes(body), now=now):
            raise BadSignature(
                "not signed: webhook-id, webhook-timestamp and webhook-signature are missing"
            )
        try:
            return Event.model_validate_json(bytes(body))
        except ValidationError as error:
            raise NotOurs("the delivery is signed, but it is no event of this version") from error
