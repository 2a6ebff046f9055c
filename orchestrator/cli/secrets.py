"""`orchestrator secrets`: the secret that verifies deliveries to a job's callback_url."""

from __future__ import annotations

import typer

from orchestrator.cli.access import secret_keys
from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Exit, Failure
from orchestrator.schemas import SigningKey

app = typer.Typer(no_args_is_help=True, help="Secrets that others need.")


@command(app, "callback", "orchestrator secrets callback")
def callback(session: Session) -> None:
    """Print the secret that signs what goes to jobs' own callback_url."""
    try:
        with session.client() as client:
            key = client.get(SigningKey, "/v1/signing-key")
    except Failure as failure:
        # Without a server, this machine's secret keys give the same secret, if they are readable.
        if (
            failure.code is not Exit.UNREACHABLE
            or session.options.server
            or not (keys := secret_keys(session.settings()))
        ):
            raise
        from orchestrator.foundation.signing.secret_keys import Keys

        key = SigningKey(object="signing_key", secret=Keys(keys).callback_secrets[0])
    if session.terminal.json:
        session.terminal.document(key)
    else:
        session.terminal.say(key.secret)
