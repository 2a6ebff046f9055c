"""Deliveries, believed only if they are signed (Standard Webhooks)."""

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
    """Verifies what subscribers are sent, with a subscriber's secret; during a rotation with both.

    A job's own `callback_url` is signed with `client.signing_key()`. Give the body as it came, byte for byte:

        webhook = Webhook(os.environ["WEBHOOK_SECRET"])

        event = webhook.verify(request.get_data(), request.headers)      # Flask
        event = webhook.verify(await request.body(), request.headers)    # Starlette, FastAPI
        event = webhook.verify(request.body, request.headers)            # Django
    """

    def __init__(self, secrets: str | Iterable[str]) -> None:
        """Raise `ConfigError` if there is no secret, or one that is none."""
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
        """Return the event that was delivered. The names of headers may be in any case.

        Answer 401 to `BadSignature`, which says what is wrong: a header is missing or malformed, the timestamp is over
        five minutes away, or no secret matches. `event.id` is the same whenever a delivery is tried again: an event
        whose id is known already has been dealt with. Raises `NotOurs` for what is signed right but is no event.
        """
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(
                "verify needs the raw body in bytes: text or parsed JSON is not what was signed"
            )
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        said = {name.lower(): value for name, value in pairs if name.lower() in _HEADERS}
        if not standard_webhooks.verify(
            self._secrets, said, bytes(body), now=now or SystemClock().now()
        ):
            raise BadSignature(
                "not signed: webhook-id, webhook-timestamp and webhook-signature are missing"
            )
        try:
            return Event.model_validate_json(bytes(body))
        except ValidationError as error:
            raise NotOurs("the delivery is signed, but it is no event of this version") from error
