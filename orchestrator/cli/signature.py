"""`orchestrator signature` and `secrets`: sign and check webhooks by hand, with the code that does it in earnest."""

from __future__ import annotations

import secrets as chance
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.command import Session, command, secret_keys
from orchestrator.cli.failure import Exit, Failure
from orchestrator.clock import epoch_ms, from_epoch
from orchestrator.signing import Keys, key_bytes, sign, verify

app = typer.Typer(no_args_is_help=True, help="Sign and check webhooks by hand (Standard Webhooks).")
secrets = typer.Typer(no_args_is_help=True, help="Secrets that others need.")

_CAP = 2**20
Secret = Annotated[str, typer.Option(envvar="WEBHOOK_SECRET", help="whsec_...")]
Body = Annotated[Path | None, typer.Option("--file", help="The exact bytes of the body; default: stdin.")]


def _body(file: Path | None) -> bytes:
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
    message_id: Annotated[str | None, typer.Option("--id", help="webhook-id; default: a new one.")] = None,
    timestamp: Annotated[int | None, typer.Option(min=0, help="Unix seconds; default: now.")] = None,
) -> None:
    """Print the three headers that sign a body."""
    at = session.now() if timestamp is None else from_epoch(timestamp)
    key_bytes(secret)
    headers = sign([secret], message_id or f"msg_{chance.token_hex(12)}", at, _body(file))
    session.terminal.record(headers, {f"{name}:": value for name, value in headers.items()}, key="webhook-signature")


@command(
    app, "verify", "orchestrator signature verify --id msg_1 --timestamp 1763632800 --signature v1,... --file b.json"
)
def verify_(
    session: Session,
    secret: Secret,
    message_id: Annotated[str, typer.Option("--id", help="webhook-id")],
    timestamp: Annotated[str, typer.Option(help="webhook-timestamp")],
    signature: Annotated[str, typer.Option(help="webhook-signature")],
    file: Body = None,
    any_time: Annotated[bool, typer.Option("--any-time", help="Accept an old timestamp.")] = False,
) -> None:
    """Check a signature; exit 0 if it is right and 1 if it is not, saying why."""
    headers = {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    now = session.now()
    if any_time and timestamp.isdigit() and len(timestamp) <= 10:
        now = from_epoch(int(timestamp))
    verify([secret], headers, _body(file), now=now)
    age = round(epoch_ms(session.now()) / 1000 - int(timestamp))
    result = {"valid": True, "age_seconds": age}
    session.terminal.record(result, {"valid": "yes", "signed": f"{age} s ago"}, key="valid")


@command(secrets, "callback", "orchestrator secrets callback")
def callback(session: Session) -> None:
    """Print the secret that signs what goes to jobs' own callback_url."""
    try:
        with session.client() as client:
            document = client.get("/v1/signing-key")
    except Failure as failure:
        # Without a server, the secret keys of this machine give the same answer, if they are ours to read.
        if (
            failure.code is not Exit.UNREACHABLE
            or session.options.server
            or not (keys := secret_keys(session.settings()))
        ):
            raise
        document = {"object": "signing_key", "secret": Keys(keys).callback_secrets[0]}
    if session.terminal.json:
        session.terminal.document(document)
    else:
        session.terminal.say(document["secret"])
