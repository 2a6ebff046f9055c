"""`orchestrator signature`: sign and verify webhooks by hand, with the service's own code."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.options import check_secret
from orchestrator.cli.terminal import span
from orchestrator.foundation.clock import epoch_ms, from_epoch
from orchestrator.foundation.errors import BadSignature, ConfigError
from orchestrator.foundation.signing.standard_webhooks import TOLERANCE, key_bytes, sign, verify

app = typer.Typer(no_args_is_help=True, help="Sign and check webhooks by hand (Standard Webhooks).")

_CAP = 2**20
_NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")
Secret = Annotated[str, typer.Option(envvar="WEBHOOK_SECRET", help="whsec_...")]
Body = Annotated[
    Path | None, typer.Option("--file", help="The exact bytes of the body; default: stdin.")
]


def _read(file: Path | None) -> bytes:
    try:
        with file.open("rb") if file else sys.stdin.buffer as source:
            return source.read(_CAP)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", code=Exit.USAGE) from error


@command(app, "sign", "orchestrator signature sign --secret whsec_... --file body.json")
def sign_(
    session: Session,
    secret: Secret,
    file: Body = None,
    message_id: Annotated[
        str | None, typer.Option("--id", help="webhook-id; default: a new one.")
    ] = None,
    timestamp: Annotated[
        int | None, typer.Option(min=0, help="Unix seconds; default: now.")
    ] = None,
) -> None:
    """Print the three headers that sign a body."""
    at = session.now() if timestamp is None else from_epoch(timestamp)
    check_secret("--secret", secret)
    headers = sign([secret], message_id or f"msg_{secrets.token_hex(12)}", at, _read(file))
    session.terminal.record(
        headers, {f"{name}:": value for name, value in headers.items()}, key="webhook-signature"
    )


@command(
    app,
    "verify",
    "orchestrator signature verify --secret whsec_... --header-file headers.txt --file body.json",
)
def verify_(
    session: Session,
    secret: Secret,
    message_id: Annotated[str | None, typer.Option("--id", help="webhook-id")] = None,
    timestamp: Annotated[str | None, typer.Option(help="webhook-timestamp")] = None,
    signature: Annotated[str | None, typer.Option(help="webhook-signature")] = None,
    headers: Annotated[
        str | None, typer.Option(help="All headers as they came, one per line.")
    ] = None,
    header_file: Annotated[Path | None, typer.Option(help="The same, in a file.")] = None,
    file: Body = None,
    any_time: Annotated[bool, typer.Option("--any-time", help="Accept an old timestamp.")] = False,
) -> None:
    """Verify a signature; exit 1 if it is invalid, naming the check that failed."""
    pasted = "\n".join(
        [headers or "", _read(header_file).decode("utf-8", "replace") if header_file else ""]
    )
    flags = {
        name: value
        for name, value in zip(_NAMES, (message_id, timestamp, signature), strict=True)
        if value
    }
    if not flags and not pasted.strip():
        raise typer.BadParameter(
            "give --headers, --header-file, or --id, --timestamp and --signature"
        )
    signed = _pasted(pasted) | flags
    age = _checked(session, secret, signed, _read(file), any_time=any_time)
    result = {"valid": True, "age_seconds": age}
    session.terminal.record(result, {"valid": "yes", "signed": f"{age} s ago"}, key="valid")


def _pasted(text: str) -> dict[str, str]:
    """Return the headers in pasted lines, `curl -v` output too; other lines are ignored."""
    lines = (line.lstrip("<> \t").partition(":") for line in text.splitlines())
    return {name.strip().lower(): value.strip() for name, colon, value in lines if colon}


def _checked(
    session: Session, secret: str, headers: dict[str, str], body: bytes, *, any_time: bool
) -> int:
    """Return a valid signature's age (s). Raises `Failure` naming the check that failed."""
    try:
        key_bytes(secret)
    except ConfigError as error:
        raise _invalid("secret_malformed", str(error), "it begins with whsec_") from error
    if missing := [name for name in _NAMES if not headers.get(name)]:
        raise _invalid(
            "header_missing",
            f"{' and '.join(missing)} missing",
            "the sender sends all three, signed",
        )
    stamp = headers["webhook-timestamp"]
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise _invalid(
            "timestamp_malformed", f"webhook-timestamp {stamp!r} is not a number of unix seconds"
        )
    age = round(epoch_ms(session.now()) / 1000 - int(stamp))
    if abs(age) > TOLERANCE and not any_time:
        when = f"{span(age)} old" if age > 0 else f"{span(-age)} ahead of this clock"
        hint = "an old delivery, or a wrong clock; --any-time checks the rest"
        raise _invalid(
            "timestamp_too_far", f"webhook-timestamp is {when}, and five minutes are allowed", hint
        )
    now = from_epoch(int(stamp)) if any_time and len(stamp) <= 10 else session.now()
    try:
        verify([secret], headers, body, now=now)
    except BadSignature as error:
        raise _invalid("no_match", str(error), _cause(secret, headers, body)) from error
    return age


def _cause(secret: str, headers: dict[str, str], body: bytes) -> str:
    """Return why a signature may not match: mostly the body was changed."""
    signatures = headers["webhook-signature"].split(" ")
    if not any(signature.startswith("v1,") for signature in signatures):
        return "webhook-signature holds no v1,<base64>"
    at = from_epoch(int(headers["webhook-timestamp"]))
    for other, words in (
        (body.rstrip(b"\r\n"), "without the newline at its end"),
        (body + b"\n", "with a newline"),
    ):
        if sign([secret], headers["webhook-id"], at, other)["webhook-signature"] in signatures:
            return f"the body matches {words}: save the exact bytes that came"
    return "another secret, or not the exact bytes that came (parsed JSON written again is not)"


def _invalid(check: str, message: str, hint: str = "") -> Failure:
    return Failure(
        message, hint=hint, document={"valid": False, "failed": check, "reason": message}
    )
