"""Settings of e-mail: the server that messages are sent through."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from orchestrator.foundation.settings.types import Secret

_MAILBOX = re.compile(r"(?:[^<>\r\n]*<)?[!-?A-~]+@[A-Za-z0-9.-]+>?")


def _smtp_url(secret: SecretStr) -> SecretStr:
    try:
        url = urlsplit(secret.get_secret_value())
        fits = url.scheme in ("smtp", "smtps") and url.hostname and url.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ValueError("must be like smtps://user:password@mail.example.com:465")
    return secret


def _mailbox(text: str) -> str:
    if not (text.isprintable() and _MAILBOX.fullmatch(text)):
        raise ValueError('must be like "Renders <renders@example.com>"')
    return text


class Email(BaseModel):
    """The server that e-mail is sent through, and its sender."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    #: `smtps://` is TLS from the start, `smtp://` STARTTLS: without, nothing is sent.
    smtp_url: Annotated[Secret, AfterValidator(_smtp_url)] | None = None
    sender: Annotated[str, AfterValidator(_mailbox)] | None = Field(default=None, alias="from")

    @model_validator(mode="after")
    def _whole(self) -> Email:
        if (self.smtp_url is None) != (self.sender is None):
            raise ValueError("smtp_url and from belong together: set both")
        return self
