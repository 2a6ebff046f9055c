"""Forwards events to a consumer: signed, one at a time, retried until it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import typer

from orchestrator import __version__
from orchestrator.cli.options import pair
from orchestrator.client import way
from orchestrator.foundation.clock import Clock, backoff
from orchestrator.foundation.signing.standard_webhooks import sign

_TIMEOUT = httpx.Timeout(30, connect=5)
#: Bytes of an answer that are read, so that the connection can be reused. They are not used.
_CAP = 1 << 20
#: Backoff while a consumer is away (s): the first pause, its growth, the longest.
_FIRST, _FACTOR, _MOST = 0.2, 1.5, 5.0
#: Cut connections per event: an event that kills its consumer must not block all others.
_CUTS = 4
_RESERVED = ("webhook-", "content-length", "transfer-encoding", "connection")


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A consumer's answer: its status, or why there is none, and the last attempt's time (ms)."""

    status: int | None
    ms: int
    error: str = ""

    @property
    def is_accepted(self) -> bool:
        """True for a 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def words(self) -> str:
        """The answer in short. Redirects are not followed: a webhook's URL must be exact."""
        if self.status is None:
            return self.error
        redirect = " (a redirect: not followed)" if 300 <= self.status < 400 else ""
        return f"{self.status}{redirect}"


def target(text: str) -> str:
    """Return the URL that `localhost:3000/hook` means. Raises `typer.BadParameter`."""
    given = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(given)
        httpx.URL(given)
        valid = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
        )
    except (ValueError, httpx.InvalidURL):
        valid = False
    if not valid:
        raise typer.BadParameter(
            f"{text!r} is no http(s) URL, like localhost:3000/hook", param_hint="--forward-to"
        )
    return given


def extra_headers(given: list[str]) -> dict[str, str]:
    """Return the headers of `K:V` words. Raises `typer.BadParameter` for reserved ones too."""
    headers = {}
    for word in given:
        name, value = pair("--header", word, ":")
        if not word.isprintable() or not name.isascii():
            raise typer.BadParameter(f"{word!r} is not K:V", param_hint="--header")
        if name.strip().lower().startswith(_RESERVED):
            raise typer.BadParameter(
                f"{name.strip()} is set by the signature or the protocol", param_hint="--header"
            )
        headers[name.strip().lower()] = value.strip()
    return headers


class Forwarder:
    """Sends events to one consumer, in order. `notice` reports outages and their end."""

    def __init__(
        self,
        url: str,
        secret: str,
        headers: Mapping[str, str],
        clock: Clock,
        notice: Callable[[str], None],
    ) -> None:
        self.url = url
        self._secret = secret
        self._clock = clock
        self._notice = notice
        ours = {
            "content-type": "application/json",
            "user-agent": f"orchestrator-listen/{__version__}",
        }
        self._http = httpx.Client(
            headers={**ours, **headers}, timeout=_TIMEOUT, follow_redirects=False, **way(url)
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def send(self, event_id: str, body: bytes) -> Forwarded:
        """Return the consumer's answer to an event. An absent consumer is retried without end."""
        tries, cuts, reported = 0, 0, ""
        while True:
            began = time.monotonic()
            try:
                forwarded = self._attempt(event_id, body, began)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                what, why = "cannot be reached", str(error) or "no answer"
            except httpx.TimeoutException:
                return Forwarded(None, _since(began), f"no answer in {_TIMEOUT.read:.0f} s")
            except httpx.TransportError as error:
                cuts += 1
                if cuts == _CUTS:
                    return Forwarded(None, _since(began), "broke off")
                what, why = "broke off", str(error) or type(error).__name__
            else:
                if reported:
                    self._notice(f"{self.url} answers again")
                return forwarded
            # Not reported: the connection kept from the last event was closed meanwhile.
            if what != reported and (tries or not cuts):
                self._notice(f"{self.url} {what} ({why}); trying again until it answers")
                reported = what
            time.sleep(backoff(_FIRST, tries, factor=_FACTOR, most=_MOST))
            tries += 1

    def _attempt(self, event_id: str, body: bytes, began: float) -> Forwarded:
        # Signed per attempt: the timestamp is the attempt's, the id the event's.
        headers = sign([self._secret], event_id, self._clock.now(), body)
        with self._http.stream("POST", self.url, content=body, headers=headers) as response:
            read = 0
            for chunk in response.iter_raw():
                read += len(chunk)
                if read > _CAP or time.monotonic() - began > (_TIMEOUT.read or 0):
                    break
            return Forwarded(response.status_code, _since(began))


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
