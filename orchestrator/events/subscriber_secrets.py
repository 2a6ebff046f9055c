"""What is stored of a subscriber's address, headers and credentials: encrypted, and as shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypedDict

from orchestrator.database.tables.rows import SubscriberRow
from orchestrator.events.destinations import Destination
from orchestrator.foundation import addresses
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.signing.secret_keys import Keys


class AddressColumns(TypedDict):
    """The address, encrypted; its keyed hash; and as it may be shown."""

    address: str
    address_key: str
    shown: str


def address_columns(keys: Keys, destination: Destination, url: str) -> AddressColumns:
    """Return the columns of an address. Where all of it is secret, `shown` leaves out its path."""
    shown = addresses.hidden(url) if destination.secret_address else addresses.shown(url)
    sealed = keys.seal_address(url)
    return {"address": sealed.encrypted, "address_key": sealed.key, "shown": shown}


def encrypted(keys: Keys, pairs: Mapping[str, str]) -> str | None:
    """Return headers or credentials encrypted: a header may hold a credential too."""
    return keys.encrypt(json.dumps(dict(pairs))) if pairs else None


def credential_names(keys: Keys, row: SubscriberRow) -> list[str] | None:
    """Return which credentials a subscriber has; None if no key can decrypt them."""
    try:
        return list(_names(keys.decrypt, row["credentials"])) if row["credentials"] else []
    except ConfigError:
        return None


@lru_cache(maxsize=1024)
def _names(decrypt: Callable[[str], str], sealed: str) -> tuple[str, ...]:
    return tuple(sorted(json.loads(decrypt(sealed))))


def has_origin(keys: Keys, row: SubscriberRow, url: str) -> bool:
    """True if a URL has the origin of a subscriber's address. False if that cannot be read."""
    try:
        return addresses.origin(keys.decrypt(row["address"])) == addresses.origin(url)
    except ConfigError:
        return False
