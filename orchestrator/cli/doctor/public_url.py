"""Checks of the public URL: its address, and whether requests through it reach this service."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

import httpx

from orchestrator.cli.access import secret_keys
from orchestrator.cli.doctor.exchange import Response, client, exchange
from orchestrator.cli.doctor.findings import Check, Finding, ok, problem, warning
from orchestrator.client import is_loopback
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.foundation.clock import Clock, SystemClock
from orchestrator.foundation.errors import Blocked, ConfigError
from orchestrator.foundation.masking import OPERATOR_PREFIX
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.signing import callback_probe
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.vendors import registry

_DEADLINE = 8.0
#: Seconds to the first bytes of a stream, which are sent at once; a buffering proxy takes longer.
_SOON = 3.0
_HELD = 6.0
_OURS = "there is no such callback"
_FIREWALL = "vendors must get through to /callbacks/ without a login: let it through there"
_BUFFERED = "switch buffering off for /v1/events/stream (nginx: proxy_buffering off)"


def checks(
    settings: Settings | None, clock: Clock, *, running: bool, served: str | None = None
) -> list[Check]:
    """Return the checks of the public URL: `served`, which the running server gives to vendors.

    Without such a server it is that of this machine's settings.
    """
    if settings is None and served is None:
        return []
    found: list[Check] = []
    here = settings or Settings()
    if served is not None and served != here.base_url:
        if settings is not None and not _is_default(settings):
            found.append(("public URL", partial(_differs, here.base_url, served)))
        here = here.model_copy(update={"public_url": served})
    found.append(("public URL", partial(_written, here)))
    if running or not is_loopback(here.public_url):
        found.append(("callbacks", partial(_callbacks, here, clock, running)))
    return found


def _is_default(settings: Settings) -> bool:
    """True if `public_url` is not set: `serve` derives it from its port."""
    return settings.origins().get("public_url") == "default"


def _differs(here: str, served: str) -> Iterator[Finding]:
    words = f"the running server gives vendors {served}; the settings here say {here}"
    fix = "if the settings here are the server's, restart it; otherwise run doctor with its own"
    yield warning("public URL", words, fix)


def _written(settings: Settings) -> Iterator[Finding]:
    url = settings.public_url
    if _is_private(settings):
        yield ok("public URL", f"{url}: private, like the vendors, which are all in allow_private")
        return
    host = urlsplit(url).hostname or ""
    try:
        found = sorted(
            {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
        )
    except (OSError, UnicodeError) as error:
        fix = "make a DNS entry, or change public_url"
        yield problem("public URL", f"{host} does not resolve: {error}", fix)
        return
    hidden = [address for address in found if _is_hidden(address)]
    if hidden:
        words = f"{url} leads to {', '.join(hidden)}, where no vendor can reach us"
        if is_loopback(url) and _is_default(settings):
            words = f"not set: vendors are given {url}, where they cannot reach us"
        fix = "set public_url (PUBLIC_URL) to where vendors reach this server"
        finding = problem if _is_pushed(settings) else warning
        yield finding("public URL", words, fix)
    elif not url.startswith("https://"):
        words = f"{url} is not https: callback tokens can be read in transit"
        yield warning("public URL", words, "use https")
    else:
        yield ok("public URL", f"{url} leads to {', '.join(found)}")


def _is_private(settings: Settings) -> bool:
    """True if every vendor is in `allow_private`, as in a demo."""
    try:
        guard = AddressPolicy(settings.allow_private)
        urls = [account.base_url for account in settings.accounts.values()]
    except ConfigError:
        return False
    return bool(urls) and all(url and guard.is_internal(url) for url in urls)


def _is_pushed(settings: Settings) -> bool:
    """True if some vendor sends pushes."""
    for account in settings.accounts.values():
        try:
            if registry.bind_vendor(account, SystemClock()).pushes:
                return True
        except ConfigError:
            continue
    return False


def _is_hidden(address: str) -> bool:
    try:
        AddressPolicy().check(address.partition("%")[0])
    except Blocked:
        return True
    return False


def _callbacks(settings: Settings, clock: Clock, running: bool) -> Iterator[Finding]:
    """Post a ping through the public URL. If we answer it, open a stream there with a pass."""
    readable = secret_keys(settings)
    # With a key of its own the ping is forged: it shows that some orchestrator answers.
    keys, base = Keys(readable or [secrets.token_urlsafe(48)]), settings.base_url
    nonce = secrets.token_urlsafe(12)
    url = f"{base}/callbacks/{callback_probe.PING}/{callback_probe.ping(keys, nonce, clock.now())}"
    try:
        answer = exchange("POST", url, _DEADLINE, {"ping": True})
    except (httpx.TransportError, httpx.InvalidURL) as error:
        yield _unreached(base, error, running)
        return
    if callback_probe.is_answered(keys, nonce, str(answer.document.get("pong")), clock.now()):
        yield ok("callbacks", f"{base} leads to this service, in {answer.took * 1000:.0f} ms")
        yield from _stream(base, OPERATOR_PREFIX + keys.mint_pass(clock.now()))
    elif not readable and _is_ours(answer):
        words = f"{base} leads to an orchestrator, in {answer.took * 1000:.0f} ms"
        yield ok("callbacks", f"{words}; its secret keys, here unknown, would tell which")
    else:
        yield _misled(base, answer)


def _unreached(base: str, error: Exception, running: bool) -> Finding:
    words = f"{base} cannot be reached: {error or type(error).__name__}"
    if "CERTIFICATE" in str(error).upper():
        fix = "vendors check certificates: renew it, and send the whole chain"
        return problem("callbacks", words, fix)
    if not running:
        return warning("callbacks", words, "start the server: orchestrator serve")
    fix = "DNS, firewall, reverse proxy? Some routers block it from inside: then try elsewhere"
    return problem("callbacks", words, fix)


def _is_ours(answer: Response) -> bool:
    """True for the response of an orchestrator to a ping that is not of its keys."""
    return answer.status == httpx.codes.NOT_FOUND and _OURS in answer.text


def _misled(base: str, answer: Response) -> Finding:
    """Return what answered instead of us."""
    status = answer.status
    if 300 <= status < 400:
        where = answer.headers.get("location", "")[:200].partition("/callbacks/")[0]
        fix = "vendors do not follow redirects: set public_url to where it leads"
        return problem("callbacks", f"{base} redirects ({status}) to {where}", fix)
    if _is_ours(answer):
        words = f"{base} leads to an orchestrator with other secret_keys"
        fix = "give all replicas the same ones; is it another deployment?"
        return problem("callbacks", words, fix)
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        words = f"{base} requires a login, or a firewall refuses ({status})"
        return problem("callbacks", words, _FIREWALL)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        words = f"{base} answers {status}: a proxy without a server behind it"
        fix = 'does the proxy lead to this server, and has it role "all" or "api"?'
        return problem("callbacks", words, fix)
    words = f"another server answers at {base} ({status})"
    return problem("callbacks", words, "lead POST /callbacks/* to this server, paths unchanged")


def _stream(base: str, bearer: str) -> Iterator[Finding]:
    """Open the stream of events and measure when its first bytes arrive: they are sent at once."""
    headers = {"authorization": f"Bearer {bearer}", "accept": "text/event-stream"}
    began = time.monotonic()
    try:
        with (
            client(base, _HELD) as http,
            http.stream("GET", f"{base}/v1/events/stream", headers=headers) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                words = f"{base}/v1/events/stream answers {answer.status_code}"
                yield warning("event stream", words, "lead /v1/events/stream to this server too")
                return
            next(answer.iter_raw(), b"")
    except httpx.ReadTimeout:
        words = f"no byte within {_HELD:g} s: a proxy holds it back"
        yield problem("event stream", words, _BUFFERED)
        return
    except httpx.TransportError as error:
        words = f"broke off: {error or type(error).__name__}"
        yield warning("event stream", words, "look at the proxy's log")
        return
    took = time.monotonic() - began
    if took > _SOON:
        words = f"its first bytes took {took:.1f} s: a proxy holds them back"
        yield problem("event stream", words, _BUFFERED)
    else:
        yield ok("event stream", f"its first bytes came in {took * 1000:.0f} ms")
