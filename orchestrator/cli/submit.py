"""`orchestrator submit`: submit a job, and wait for it with `--wait`."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from orchestrator.cli.client import Client
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import ACCOUNTS, models
from orchestrator.cli.download import writable
from orchestrator.cli.failure import Failure
from orchestrator.cli.job_record import shown
from orchestrator.cli.options import pair, seconds, time_or_seconds
from orchestrator.cli.terminal import Record
from orchestrator.cli.wait import wait as wait_for
from orchestrator.schemas import Account, Job

_FOREVER = 86400.0
#: Characters of `--input`: what a job with images in Base64 may have.
_INPUT_CAP = 2**25

AccountName = Annotated[
    str | None, typer.Option(help="Optional if only one is configured.", autocompletion=ACCOUNTS)
]
Capability = Annotated[
    str | None, typer.Option(help="text2video, image2video, ...; the input may decide it.")
]
InputText = Annotated[str | None, typer.Option("--input", help="JSON, @file.json, or - for stdin.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="One input field: duration=5, extra.seed=7.")
]
ExternalId = Annotated[
    str | None, typer.Option(help="Your own id of the job, unique in its account.")
]
IdempotencyKey = Annotated[
    str | None, typer.Option(help="The same key is the same job; default: a new one.")
]
CallbackUrl = Annotated[str | None, typer.Option(help="Where this job's events go, signed.")]
StartAfter = Annotated[
    str | None, typer.Option(help="Not before: 15m, 2h, or a time such as 2026-11-20T10:00:00Z.")
]
Priority = Annotated[
    int | None, typer.Option(min=-10, max=10, help="Higher goes first, within its fairness key.")
]
FairnessKey = Annotated[
    str | None, typer.Option(help="Slots go round the keys; default: your API key.")
]
Wait = Annotated[
    float | None, typer.Option(metavar="[SECONDS]", min=0, help="Wait until it is final.")
]
Output = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Wait, and download the results, to video.mp4.")
]


class Waits(TyperCommand):
    """A command whose `--wait` may stand alone: `--wait`, `--wait 60` and `--wait=60`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spelled: list[str] = []
        for word, following in zip_longest(args, args[1:], fillvalue=""):
            bare = word == "--wait" and not following.replace(".", "", 1).isdigit()
            spelled.append(f"--wait={_FOREVER:.0f}" if bare else word)
        return super().parse_args(ctx, spelled)


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(
        app,
        "submit",
        'orchestrator submit --account main --model kling-v3 --prompt "a cat surfing" --wait',
        cls=Waits,
    )(submit)


def submit(
    session: Session,
    account: AccountName = None,
    model: Annotated[
        str | None, typer.Option(help="The vendor's name of it.", autocompletion=models)
    ] = None,
    capability: Capability = None,
    prompt: str | None = None,
    image: Annotated[str | None, typer.Option(help="URL of the (first) image.")] = None,
    last_image: Annotated[str | None, typer.Option(help="URL of the last frame.")] = None,
    text: InputText = None,
    sets: Sets = None,
    external_id: ExternalId = None,
    idempotency_key: IdempotencyKey = None,
    metadata: Annotated[list[str] | None, typer.Option(help="k=v, handed back to you.")] = None,
    callback_url: CallbackUrl = None,
    deadline: Annotated[str | None, typer.Option(help="Expire after 90s, 15m, 2h.")] = None,
    start_after: StartAfter = None,
    priority: Priority = None,
    fairness_key: FairnessKey = None,
    wait: Wait = None,
    output: Output = None,
) -> None:
    """Submit a job. With --wait, exit 6 if it fails and 7 if the time is up first."""
    flags: Record = {"prompt": prompt, "image_url": image, "last_image_url": last_image}
    body: Record = {
        "account": account,
        "model": model,
        "capability": capability,
        "input": _set({**_read(text), **_given(flags)}, sets or []),
        "external_task_id": external_id,
        "callback_url": callback_url,
        "metadata": dict(pair("--metadata", word) for word in metadata or []) or None,
        "deadline": seconds("--deadline", deadline) if deadline is not None else None,
        "start_after": time_or_seconds("--start-after", start_after)
        if start_after is not None
        else None,
        "priority": priority,
        "fairness_key": fairness_key,
    }
    _carry_out(session, body, _key(idempotency_key), wait, output)


def _carry_out(
    session: Session, body: Record, key: str, wait: float | None, output: Path | None
) -> None:
    """Submit a job, and wait for it where that was asked for, or where its results are."""
    if output is not None:
        output, wait = writable(output), _FOREVER if wait is None else wait
    with session.client() as client:
        job = _order(client, body, key)
        if not session.terminal.quiet:
            _look_at_model(session, client, job)
        if wait is None:
            session.terminal.record(job, shown(job))
            return
        about = f"account {job.account} · {job.model}"
        session.terminal.notice(f"✓ Accepted {job.id}  {about}", "green")
        wait_for(session, client, job, wait, output)


def _key(given: str | None) -> str:
    """Return the idempotency key, a new one for None. Raises `typer.BadParameter`."""
    if given is not None and not (given.isascii() and given.isprintable()):
        raise typer.BadParameter("must be printable ASCII", param_hint="--idempotency-key")
    return given or secrets.token_urlsafe(24)


def _order(client: Client, body: Record, key: str) -> Job:
    again = f"the same command with --idempotency-key {key} makes no second job"
    return client.order(Job, "/v1/jobs", key, again, _given(body))


def _look_at_model(session: Session, client: Client, job: Job) -> None:
    """Print a warning for a model that the vendor's documents do not name."""
    # The job is submitted: whatever happens here, the command has succeeded.
    with contextlib.suppress(Failure):
        models = client.get(Account, f"/v1/accounts/{job.account}").models
        if models and not any(job.model in names for names in models.values()):
            known = ", ".join(models.get(job.capability, []))
            words = f"! {job.model} is no known model of {job.vendor}"
            session.terminal.notice(words, "yellow", [f"known for {job.capability}: {known}"])


def _given(fields: Record) -> Record:
    return {name: value for name, value in fields.items() if value is not None}


def _read(given: str | None) -> Record:
    """Return the input that `--input` names. Raises typer.BadParameter."""
    if given is None:
        return {}
    try:
        if given == "-":
            text = sys.stdin.read(_INPUT_CAP)
        elif given.startswith("@"):
            with Path(given[1:]).open(encoding="utf-8") as file:
                text = file.read(_INPUT_CAP)
        else:
            text = given
        document = json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"{given[1:]}: {error.strerror}", param_hint="--input") from error
    except ValueError as error:
        raise typer.BadParameter(f"not JSON ({error})", param_hint="--input") from error
    if not isinstance(document, dict):
        raise typer.BadParameter("must be a JSON object", param_hint="--input")
    return document


def _set(order: Record, sets: list[str]) -> Record:
    """Return the input with every `k=v` set: dots descend, a value that is not JSON is text."""
    for assignment in sets:
        path, value = pair("--set", assignment)
        *parents, last = path.split(".")
        node = order
        for name in parents:
            below = node.setdefault(name, {})
            if not isinstance(below, dict):
                raise typer.BadParameter(f"{name} is not an object", param_hint="--set")
            node = below
        try:
            node[last] = json.loads(value)
        except ValueError:
            node[last] = value
    return order
