"""Checks of a subscriber before it is stored: its kind, its address, its options, its credentials.

Messages never repeat an address or a value: both may be secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

import httpx

from orchestrator.api import problems
from orchestrator.api.submission_checks import check_url
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.events.destinations import Destination, Option
from orchestrator.foundation import addresses, broker_addresses, extras
from orchestrator.foundation.errors import Blocked, ConfigError, Fault

#: Of a kind, before a URL of the web: `sqs:https://...`.
_PREFIXED = re.compile(r"([a-z][a-z0-9_-]{0,31}):(https?://.*)", re.DOTALL)
_DEFAULT = "webhook"


def choose(kinds: Mapping[str, Destination], kind: str | None, url: str) -> tuple[Destination, str]:
    """Return the kind of a subscriber and its address, without the name of the kind before it.

    Without `kind` it is the one that recognizes the address, or the only one with its scheme, or a
    webhook. Raises a 422 `Problem`.
    """
    prefixed = _PREFIXED.fullmatch(url)
    if prefixed and prefixed[1] in kinds and kind in (None, prefixed[1]):
        kind, url = prefixed[1], prefixed[2]
    if kind is None:
        kind = _inferred(kinds, url)
    if kind not in kinds:
        message = f"No such kind of destination; there are: {', '.join(sorted(kinds))}"
        raise problems.invalid_field("/kind", "unknown_kind", message)
    return kinds[kind], url


def without_prefix(destination: Destination, url: str) -> str:
    """Return an address without the name of its kind before it."""
    return url.removeprefix(f"{destination.kind}:") if _PREFIXED.fullmatch(url) else url


def _inferred(kinds: Mapping[str, Destination], url: str) -> str:
    """Return the kind of an address. Raises a 422 `Problem` if it could be several, or none."""
    scheme = url.partition(":")[0].lower()
    found = [kind for kind, one in kinds.items() if _recognizes(one, url)]
    if not found and addresses.is_web(url):
        return _DEFAULT
    found = found or [kind for kind, one in kinds.items() if scheme in one.schemes]
    if len(found) == 1:
        return found[0]
    if not found:
        schemes = sorted({scheme for one in kinds.values() for scheme in one.schemes})
        message = f"No kind has addresses of this scheme; there are: {', '.join(schemes)}"
        raise problems.invalid_field("/url", "unknown_scheme", message)
    message = f"Several kinds have such addresses; give one: {', '.join(sorted(found))}"
    raise problems.invalid_field("/kind", "missing", message)


def _recognizes(destination: Destination, url: str) -> bool:
    try:
        return destination.recognizes(url)
    except (ValueError, httpx.InvalidURL):
        # What no parser of URLs takes is of no kind.
        return False


def check_installed(destination: Destination) -> None:
    """Raise a 422 `Problem` if the library of a kind is missing."""
    if not destination.extra:
        return
    try:
        extras.require(destination.extra)
    except extras.MissingExtra as error:
        message = f"{destination.kind}: {error}; then restart the service"
        raise problems.invalid_field("/kind", "extra_missing", message) from None


def check_address(policy: AddressPolicy, destination: Destination, url: str) -> None:
    """Raise a 422 `Problem` for an address that cannot be of this kind, or is blocked."""
    if addresses.is_web(url):
        check_url(policy, "/url", url)
    if url.partition(":")[0].lower() not in destination.schemes:
        schemes = ", ".join(f"{scheme}:" for scheme in destination.schemes)
        message = f"An address of {destination.kind} begins with {schemes} as {destination.example}"
        raise problems.invalid_field("/url", "wrong_scheme", message)
    if not addresses.is_web(url):
        _check_broker(policy, destination, url)
    elif destination.secret_address and not _is_private(policy, url):
        message = f"The address of {destination.kind} is a secret: use https"
        raise problems.invalid_field("/url", "https_required", message)
    try:
        destination.check_address(url)
    except ConfigError as error:
        raise problems.invalid_field("/url", "invalid_address", str(error)) from None
    except (ValueError, httpx.InvalidURL):
        message = f"Not an address of {destination.kind}, which is like {destination.example}"
        raise problems.invalid_field("/url", "invalid_address", message) from None


def _is_private(policy: AddressPolicy, url: str) -> bool:
    """Return whether what is sent to a URL is encrypted, or stays in a network of ours."""
    return url.lower().startswith("https://") or policy.is_internal(url)


def _check_broker(policy: AddressPolicy, destination: Destination, url: str) -> None:
    """Raise a 422 `Problem` for a wrong form, a secret in it, or a host that is blocked.

    An address that is a secret as a whole may have a form of its own.
    """
    try:
        parsed = broker_addresses.parse(url)
        # Parsers of kinds have to accept it too.
        urlsplit(url)
    except (ConfigError, ValueError) as error:
        if destination.secret_address and url.isprintable() and isinstance(error, ConfigError):
            return
        message = f"An address of {destination.kind} is like {destination.example}"
        raise problems.invalid_field("/url", "invalid_address", message) from None
    if parsed.secret is not None and not destination.secret_address:
        known = ", ".join(destination.credentials) or "none"
        message = (
            f"A secret has no place in an address ({parsed.secret}): send it in `credentials`;"
            f" {destination.kind} has {known}"
        )
        raise problems.invalid_field("/url", "secret_in_address", message)
    try:
        policy.check_hosts(parsed.endpoints)
    except Blocked as error:
        raise problems.invalid_field("/url", "blocked_address", str(error)) from None


def check_options(destination: Destination, given: Mapping[str, str]) -> None:
    """Raise a 422 `Problem` for options that the kind does not have, lacks or does not take."""
    declared = destination.options
    _refuse(_faults(destination.kind, "options", "unknown_option", declared, given))


def check_credentials(
    destination: Destination, given: Mapping[str, str], *, has_moved: bool = False
) -> None:
    """Raise a 422 `Problem` for credentials, as `check_options`.

    `has_moved`: the address has got another origin, which does not get the stored ones.
    """
    declared = destination.credentials
    faults = [*_faults(destination.kind, "credentials", "unknown_credential", declared, given)]
    if has_moved and not given:
        why = " Another origin does not get the stored one: give it again"
        faults = [replace(fault, message=fault.message + why) for fault in faults]
    _refuse(faults)


def _refuse(faults: Iterable[Fault]) -> None:
    if found := [*faults]:
        raise problems.invalid_fields(found)


def _faults(
    kind: str, field: str, code: str, declared: Mapping[str, Option], given: Mapping[str, str]
) -> Iterable[Fault]:
    for name, value in given.items():
        pointer = f"/{field}/{problems.pointer_part(name[:64])}"
        if (option := declared.get(name)) is None:
            has = f"it has {', '.join(declared)}" if declared else "it has none"
            yield Fault(pointer, code, f"{kind} has no such {_SINGULAR[field]}; {has}")
        elif fault := option.fault(value):
            yield Fault(pointer, code, f"{fault} ({option.description})")
    for name, option in declared.items():
        if option.required and name not in given:
            message = f"{kind} needs it: {option.description}"
            yield Fault(f"/{field}/{name}", "missing", message)


_SINGULAR = {"options": "option", "credentials": "credential"}
