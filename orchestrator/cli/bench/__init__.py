"""`orchestrator bench ...`: throughput and latency on this machine, each next to its limit."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from typer import Option

from orchestrator import __version__
from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import clean

if TYPE_CHECKING:
    from orchestrator.cli.bench.measurement import JsonObject, Plan, Result


SIZES = ("jobs", "history", "subscribers", "accounts", "waiting")
_BACKGROUND = ("jobs", "history", "subscribers", "waiting")


class Bench(NamedTuple):
    """Module and function, the sizes it takes, options of an example, and what it measures."""

    function: str
    sizes: tuple[str, ...]
    example: str
    about: str


BENCHES: Mapping[str, Bench] = {
    "ingest": Bench("ingest.bench", SIZES, "",
        "Durable acknowledgements of pushes per second; limits: a bare handler, bare commits."),
    "deliver": Bench("deliver.bench", SIZES, "--rounds 5",
        "Recorded deliveries per second; limits: bare aiohttp, one shared httpx.AsyncClient."),
    "lifecycle": Bench("lifecycle.bench", SIZES, "--seconds 60 --rounds 1",
        "Whole jobs per second, submitted, pushed, delivered; limit: nothing stored."),
    "latency": Bench("latency.bench", _BACKGROUND, "--seconds 10",
        "Push to delivered at low load; limit: a relay that stores nothing."),
    "isolation": Bench("latency.isolation", _BACKGROUND, "--seconds 10",
        "Push to delivered next to two subscribers that hang; limit: without them."),
    "saturation": Bench("saturation.bench", SIZES, "--database postgresql://...",
        "Accepted and delivered at full load, and how late; limit: a relay that stores nothing."),
    "poll": Bench("poll.bench", ("jobs",), "--jobs 100000",
        "Status queries about one job or many; CPU at rest with many live jobs."),
    "claims": Bench("claims.bench", ("jobs",), "--jobs 1000000",
        "The cost of a claim next to rows that are not due, and next to a hot lane."),
    "reads": Bench("reads.bench", ("jobs",), "--jobs 1000000 --seconds 30",
        "Lists, jobs and timelines; limit: the same with a thousand jobs."),
    "recovery": Bench("recovery.bench", ("jobs",), "--rounds 3",
        "Seconds until work goes on after kill -9, and until all jobs are final."),
    "growth": Bench("growth.bench", SIZES, "--jobs 1000000 --history 10000000",
        "Start, memory, pushes, deliveries and whole jobs as the database grows."),
}  # fmt: skip
#: Runs all but `growth`, which repeats three of them for every size.
ALL = "all"

_HELP = """Measure this machine; every figure stands next to its limit. Everything runs on loopback,
in processes and folders that are removed afterwards."""
_DATABASE = """postgresql://... (a schema is created and dropped), or sqlite:///... (its folder
selects the disk; default: the folder for temporary files)."""
Database = Annotated[str, Option(help=" ".join(_DATABASE.split()))]
Seconds = Annotated[float, Option(min=0.1, max=86_400, help="Of each measurement.")]
Rounds = Annotated[int, Option(min=1, max=1000, help="Every measurement runs once per round.")]
Jobs = Annotated[int | None, Option(min=1, help="Jobs: finished before, or live, or due.")]
History = Annotated[int, Option(min=0, help="Rows of history of these jobs: at least five a job.")]
Subscribers = Annotated[int | None, Option(min=1, help="All but one want other events.")]
Accounts = Annotated[int | None, Option(min=1, help="Accounts that share the load evenly.")]
Waiting = Annotated[int | None, Option(min=0, help="Waiting retries of a dead subscriber.")]

app = typer.Typer(help=" ".join(_HELP.split()), no_args_is_help=True)


def _command_for(name: str, about: str) -> Callable[..., None]:
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
        # Imported here, as in `_run`: other commands start without the service's modules.
        from orchestrator.cli.bench.measurement import Plan

        sizes = (jobs, history, subscribers, accounts, waiting)
        _run(session, name, Plan(database, seconds, rounds, *sizes, session.terminal.notice))

    measure.__doc__ = about
    return measure


def _run(session: Session, name: str, plan: Plan) -> None:
    """Run benches and print their results. Raises `Failure` if anything was lost or duplicated."""
    import sqlalchemy as sa

    _check_sizes(name, plan)
    results: list[Result] = []
    try:
        with _interruptible():
            for result in _results(name, plan):
                results.append(result)
                if not session.terminal.json:
                    _show(session, result)
    except KeyboardInterrupt:
        raise Failure("stopped; nothing was left behind", code=Exit.INTERRUPTED) from None
    except BrokenPipeError:
        raise
    except (OSError, sa.exc.SQLAlchemyError) as error:
        reason = clean(error).splitlines()[0]
        hint = "is there memory, and room on the disk?"
        raise Failure(f"the bench failed: {reason}", hint=hint) from error
    if session.terminal.json:
        documents = [result.document() for result in results]
        session.terminal.document({"object": "bench", **_machine(plan), "results": documents})
    bad = [each.bench for each in results if each.integrity.lost or each.integrity.duplicated]
    if bad:
        raise Failure(f"something was lost or duplicated: {', '.join(bad)}")


def _check_sizes(name: str, plan: Plan) -> None:
    """Raise `Failure` if the plan gives a size that the bench does not take."""
    takes = SIZES if name == ALL else BENCHES[name].sizes
    for size in SIZES:
        if getattr(plan, size) and size not in takes:
            known = ", ".join(f"--{each}" for each in takes)
            raise Failure(f"{name} does not take --{size}; it takes {known}", code=Exit.USAGE)


def _results(name: str, plan: Plan) -> Iterator[Result]:
    """Run a bench, or all but growth, each with the sizes that it takes."""
    for each in [name] if name != ALL else [other for other in BENCHES if other != "growth"]:
        sizes = {size: getattr(plan, size) for size in BENCHES[each].sizes}
        unset: dict[str, Any] = {**dict.fromkeys(SIZES), "history": 0, **sizes}
        module, _, function = BENCHES[each].function.partition(".")
        run: Callable[[Plan], Result] = getattr(import_module(f"{__name__}.{module}"), function)
        yield run(replace(plan, **unset))


def _machine(plan: Plan) -> JsonObject:
    """Return where and how it was measured: only ratios compare between machines."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "database": "postgresql" if plan.database.startswith("postgres") else "sqlite",
        "seconds": plan.seconds,
        "rounds": plan.rounds,
    }


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C, so that folders and processes are removed."""
    interrupt, kinds = signal.default_int_handler, (signal.SIGTERM, signal.SIGHUP)
    handlers = {kind: signal.signal(kind, interrupt) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)


def _show(session: Session, result: Result) -> None:
    from orchestrator.cli.bench.measurement import HEADS

    counts = asdict(result.integrity).items()
    integrity = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts)
    say = session.terminal.say
    say(f"{result.bench}: {result.operations:,} operations, {integrity}")
    session.terminal.table(HEADS, [line for each in result.figures for line in each.lines()])
    say(" ")


for _name, _bench in BENCHES.items():
    _example = f"orchestrator bench {_name} {_bench.example}".rstrip()
    command(app, _name, _example)(_command_for(_name, _bench.about))
_about_all = "Every bench but growth, in order."
command(app, ALL, "orchestrator bench all --json")(_command_for(ALL, _about_all))
