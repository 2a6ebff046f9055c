"""Secrets in text: the prefixes that mark them, and the mask shown in their place. Few imports."""

from __future__ import annotations

import re

MASK = "***"
API_KEY_PREFIX = "orc_"
#: Of an operator pass, made by `signing.secret_keys.Keys.mint_pass`: a process that can read
#: `secret_keys` needs no API key.
OPERATOR_PREFIX = "orc_pass."
#: Of a Standard Webhooks signing secret.
WEBHOOK_PREFIX = "whsec_"
_URL_PASSWORD = re.compile(r"(://[^/@\s:]*):[^/\s]*@")
#: The same where the whole text is one URL, whose password may hold blanks and slashes.
_WHOLE_URL = re.compile(r"\A([^:/]*://[^/@:]*):(?!\d+(?:/|\Z)).*@", re.DOTALL)


def without_password(text: str) -> str:
    """Return a text with the password of each URL in it masked."""
    return _URL_PASSWORD.sub(rf"\1:{MASK}@", _WHOLE_URL.sub(rf"\1:{MASK}@", text))
