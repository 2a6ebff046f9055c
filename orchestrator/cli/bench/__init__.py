"""`orchestrator bench ...`: how fast it is on this machine, and how near to what the machine could do."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import clean

if TYPE_CHECKING:
    from orchestrator.cli.bench.figures import Result
    from orchestrator.cli.bench.plan import Plan

_ALONE = "Everything runs on loopback, in processes and folders of its own; all of it is gone afterwards."
#: What each says of itself, and an example's options.
ABOUT: Mapping[str, tuple[str, str]] = {
    "ingest": (
        "Durable acknowledgements of vendors' pushes a second, beside a bare handler and bare commits.",
        "",
    ),
    "deliver": (
        "Recorded deliveries a second, beside bare aiohttp and one shared httpx.AsyncClient.",
        "--rounds 5",
    ),
    "lifecycle": (
        "Whole jobs a second: submit, push, delivered, all of it durable.",
        "--seconds 60 --rounds 1",
    ),
    "latency": (
        "Push to delivered at low load, beside a relay that stores nothing.",
        "--seconds 10",
    ),
    "isolation": ("What a subscriber feels of two others that hang.", "--seconds 10"),
    "fanout": (
        "What a push costs when many subscribers are owed its event.",
        "--subscribers 10000",
    ),
    "poll": (
        "Asking vendors, one job or many to a question; and what live jobs cost at rest.",
        "--jobs 100000",
    ),
    "claims": (
        "What a claim costs beside rows that are not due, and beside a hot lane.",
        "--jobs 1000000",
    ),
    "reads": (
        "Lists, shows and timelines beside the same with a thousand jobs.",
        "--jobs 1000000 --seconds 30",
    ),
    "missed": ("When every push is lost: how much later jobs complete.", "--rounds 1"),
    "memory": (
        "What the service holds at rest, after the first jobs and after all; measured once.",
        "--jobs 1000000",
    ),
    "start": ("Until /readyz says so, on a database of many jobs.", "--jobs 1000000"),
    "growth": (
        "Pushes, deliveries and whole jobs as the database grows.",
        "--jobs 1000000 --history 10000000",
    ),
    "all": ("Every bench but growth, one after the other.", "--json"),
}

app = typer.Typer(
    help=f"Measure it here, every figure beside its limit. {_ALONE}", no_args_is_help=True
)

_DATABASE = (
    "postgresql://... (a schema is made in it, and dropped), or sqlite:///... (its folder says which disk; default: "
    "the folder for temporary files)."
)
Database = Annotated[str, typer.Option(help=_DATABASE)]
Seconds = Annotated[float, typer.Option(min=0.1, max=86_400, help="Of each measurement.")]
Rounds = Annotated[
    int, typer.Option(min=1, max=1000, help="Ours and its limits take turns so often.")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Jobs in the database, or handled, or due.")]
History = Annotated[
    int, typer.Option(min=0, help="Rows of history behind them: five for each job, or more.")
]
Subscribers = Annotated[
    int | None, typer.Option(min=1, help="Subscribers; all but one want other events.")
]
Accounts = Annotated[int | None, typer.Option(min=1, help="Accounts that the work is spread over.")]
Waiting = Annotated[int | None, typer.Option(min=0, help="Waiting retries of a dead subscriber.")]


def _measuring(name: str) -> Callable[..., None]:
    """Return the command that runs a bench."""

    def measure(
        session: Session,
        database: Database = "",
        seconds: Seconds = 5.0,
        rounds: Rounds = 3,
        jobs: Jobs = None,
        history: History = 0,
        subscribers: Subscribers = None,
        accounts: Accounts = None,
        waiting: Waiting = None,
    ) -> None:
        # Here, so that commands which only talk to a server start without the service.
        from orchestrator.cli.bench.plan import Plan

        tell = session.terminal.notice
        _run(
            session,
            name,
            Plan(database, seconds, rounds, jobs, history, subscribers, accounts, waiting, tell),
        )

    measure.__doc__ = ABOUT[name][0]
    return measure


def _run(session: Session, name: str, plan: Plan) -> None:
    """Run a bench and print what it came to. Raises `Failure` if something was lost or told twice."""
    import sqlalchemy as sa

    from orchestrator.cli.bench.benches import machine, misused, results

    if words := misused(name, plan):
        raise Failure(words, code=Exit.USAGE)
    found: list[Result] = []
    try:
        with _stoppable():
            for result in results(name, plan):
                found.append(result)
                if not session.terminal.json:
                    _show(session, result)
    except KeyboardInterrupt:
        raise Failure("stopped; nothing was left behind", code=Exit.INTERRUPTED) from None
    except BrokenPipeError:
        raise
    except (OSError, sa.exc.SQLAlchemyError) as error:
        why = clean(error).splitlines()[0]
        raise Failure(f"cut off: {why}", hint="is there memory, and room on the disk?") from error
    if session.terminal.json:
        session.terminal.document(
            {"object": "bench", **machine(plan), "results": [one.document() for one in found]}
        )
    if broken := [one.bench for one in found if one.honest.lost or one.honest.duplicated]:
        raise Failure(f"something was lost, or told twice: {', '.join(broken)}")


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Take whoever ends us for Ctrl-C: folders and processes are to be gone afterwards."""
    before = {
        kind: signal.signal(kind, signal.default_int_handler)
        for kind in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _show(session: Session, result: Result) -> None:
    from orchestrator.cli.bench.figures import HEADS

    honest = ", ".join(
        f"{count} {what.replace('_', ' ')}" for what, count in result.honest.document().items()
    )
    session.terminal.say(f"{result.bench}: {result.operations:,} operations, {honest}")
    session.terminal.table(HEADS, result.table())
    session.terminal.say(" ")


for _name, (_, _options) in ABOUT.items():
    command(app, _name, f"orchestrator bench {_name} {_options}".rstrip())(_measuring(_name))
