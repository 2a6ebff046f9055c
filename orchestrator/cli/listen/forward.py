"""Telling a consumer of an event as the service itself would: signed, one at a time, and again until it could hear."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import typer

from orchestrator import __version__
from orchestrator.client import way
from orchestrator.foundation.clock import Clock, grown
from orchestrator.foundation.signing.standard_webhooks import sign

_TIMEOUT = httpx.Timeout(30, connect=5)
#: Bytes of an answer that are read, so that the connection can be used again. Nobody looks at them.
_CAP = 1 << 20
#: Seconds between tries at a consumer that is not there: the first pause, how it grows, and the longest.
_FIRST, _FACTOR, _MOST = 0.2, 1.5, 5.0
#: How often a consumer may break off in the middle of one event: an event that kills it must not stop all others.
_CUTS = 4
_OURS = ("webhook-", "content-length", "transfer-encoding", "connection")


@dataclass(frozen=True, slots=True)
class Told:
    """What became of telling: the status answered, or why there is none; and the milliseconds of the last try."""

    status: int | None
    ms: int
    error: str = ""

    @property
    def ok(self) -> bool:
        """True if the consumer took it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def words(self) -> str:
        """The answer in a word or two. Redirects are not followed, and are said so: a webhook's URL has to be right."""
        if self.status is None:
            return self.error
        return (
            f"{self.status} (a redirect: not followed)"
            if 300 <= self.status < 400
            else str(self.status)
        )


def target(text: str) -> str:
    """Return the URL that `localhost:3000/hook` means. Raises typer.BadParameter."""
    given = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(given)
        httpx.URL(given)
        sound = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
        )
    except (ValueError, httpx.InvalidURL):
        sound = False
    if not sound:
        raise typer.BadParameter(
            f"{text!r} is no http(s) URL, like localhost:3000/hook", param_hint="--forward-to"
        )
    return given


def more_headers(given: list[str]) -> dict[str, str]:
    """Return the headers of `K:V` words. Raises typer.BadParameter for what is none, or what we say ourselves."""
    headers = {}
    for one in given:
        name, colon, value = one.partition(":")
        if (
            not colon
            or not name.strip()
            or not f"{name}{value}".isprintable()
            or not name.isascii()
        ):
            raise typer.BadParameter(f"{one!r} is not K:V", param_hint="--header")
        if name.strip().lower().startswith(_OURS):
            raise typer.BadParameter(f"{name.strip()} is for us to say", param_hint="--header")
        headers[name.strip().lower()] = value.strip()
    return headers


class Forwarder:
    """Tells one consumer, in order. `notice` is told when it cannot be reached, and when it can be again."""

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
        """Let go of the connection."""
        self._http.close()

    def tell(self, event_id: str, body: bytes) -> Told:
        """Return the consumer's answer to an event. One that is not there is waited for, however long it takes."""
        tries, cuts, said = 0, 0, ""
        while True:
            began = time.monotonic()
            try:
                told = self._once(event_id, body, began)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                what, why = "cannot be reached", str(error) or "no answer"
            except httpx.TimeoutException:
                return Told(None, _since(began), f"no answer in {_TIMEOUT.read:.0f} s")
            except httpx.TransportError as error:
                cuts += 1
                if cuts == _CUTS:
                    return Told(None, _since(began), "broke off")
                what, why = "broke off", str(error) or type(error).__name__
            else:
                if said:
                    self._notice(f"{self.url} answers again")
                return told
            # That the connection kept from the last event was closed since is no news.
            if what != said and (tries or not cuts):
                self._notice(f"{self.url} {what} ({why}); trying again until it answers")
                said = what
            time.sleep(grown(_FIRST, tries, factor=_FACTOR, most=_MOST))
            tries += 1

    def _once(self, event_id: str, body: bytes, began: float) -> Told:
        # Signed anew for each try: the timestamp is the try's, the id the event's.
        headers = sign([self._secret], event_id, self._clock.now(), body)
        with self._http.stream("POST", self.url, content=body, headers=headers) as response:
            read = 0
            for chunk in response.iter_raw():
                read += len(chunk)
                if read > _CAP or time.monotonic() - began > (_TIMEOUT.read or 0):
                    break
            return Told(response.status_code, _since(began))


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
