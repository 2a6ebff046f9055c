"""Trusted certificate authorities, and the variables of OpenSSL that name others.

OpenSSL ignores a file that is absent or broken, and then trusts no certificate: every connection
fails, and no error names the variable. So the variables are checked before a context is made.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from functools import partial

from orchestrator.foundation.errors import ConfigError

FILE, DIRECTORY = "SSL_CERT_FILE", "SSL_CERT_DIR"


def client_context(
    ca_file: str | None = None,
    default: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    *,
    web: bool = True,
) -> ssl.SSLContext:
    """Return a context that verifies servers, of HTTP or (without `web`) of any protocol.

    It trusts the authorities of `default`, which reads SSL_CERT_FILE and SSL_CERT_DIR, and those of
    `ca_file`. Raises `ConfigError` that names what cannot be used.
    """
    if file := os.environ.get(FILE):
        _load_file(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), file, FILE)
    folders = os.environ.get(DIRECTORY)
    if folders and not any(map(_is_readable, folders.split(os.pathsep))):
        raise ConfigError(f"{DIRECTORY}: no readable folder ({folders}); name another, or unset it")
    context = default()
    if web:
        context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        _load_file(context, ca_file, "ca_file")
    return context


def check_authorities(ca_file: str | None = None) -> None:
    """Raise `ConfigError` that names what `client_context` cannot use.

    The authorities of the system are not read: that takes a while.
    """
    client_context(ca_file, partial(ssl.SSLContext, ssl.PROTOCOL_TLS_CLIENT))


def _is_readable(folder: str) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK)


def _load_file(context: ssl.SSLContext, path: str, source: str) -> None:
    what = f"{source}: {path}"
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise ConfigError(f"{what} holds no PEM certificates; name a file that does") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a path"
        raise ConfigError(f"{what} cannot be read ({why}); name another, or unset it") from None
