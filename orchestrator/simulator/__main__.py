"""`python -m orchestrator.simulator`: the simulator as a process, controlled under /_control.

Prints one line of JSON with its URLs when ready. Stops on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import signal
import sys

try:
    import uvicorn

    from orchestrator.simulator.accounts import SIMULATED, account_settings
    from orchestrator.simulator.control import Control
    from orchestrator.simulator.faults import Faults, describe_faults
    from orchestrator.simulator.sample_jobs import SAMPLE_JOBS
    from orchestrator.simulator.subscriber import Subscriber
    from orchestrator.simulator.vendors import SimulatedVendors
except ModuleNotFoundError as error:
    if (error.name or "").startswith("orchestrator"):
        raise
    raise SystemExit(
        f"the simulator needs the extra `demo` ({error.name} is missing):"
        " pip install 'orchestrator[demo]'"
    ) from None

#: Errors of an address that is not available.
_ADDRESS_ERRORS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)
_FAULTS_HELP = f"""\
faults, in the JSON object of --faults and of PUT /_control/faults; values are probabilities from
0 to 1 unless a line says otherwise:
{describe_faults()}
"""


def parse_faults(text: str) -> Faults:
    """Return the faults in a JSON text. argparse turns the error into exit code 2."""
    try:
        return Faults.from_json(json.loads(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="orchestrator.simulator",
        description="Simulate every vendor, by its documents.",
        epilog=_FAULTS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=int, default=9100, help="port to listen on; 0 picks one (%(default)s)")
    add("--seed", type=int, default=1, help="seed of every random draw (%(default)s)")
    add("--render-seconds", type=float, default=1.0, help="mean duration of a render (%(default)s)")
    add("--faults", type=parse_faults, default=Faults(), help='JSON, e.g. {"drop_push": 0.3}')
    add("--push-retries", type=int, default=0, help="retries of a push without a 2xx (%(default)s)")
    add("--accounts", action="store_true", help="print a configuration for its accounts, and exit")
    add("--subscriber-port", type=int, help="also run a subscriber; 0 picks a free port")
    return parser.parse_args()


async def run(options: argparse.Namespace) -> None:
    """Serve until a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        subscriber = None
        if options.subscriber_port is not None:
            subscriber = await stack.enter_async_context(
                Subscriber(port=options.subscriber_port, host=options.host)
            )
        vendors = SimulatedVendors(
            options.seed,
            options.render_seconds,
            options.faults,
            port=options.port,
            host=options.host,
            push_retries=options.push_retries,
        )
        vendors.add_route(Control(vendors, subscriber).mount())
        await stack.enter_async_context(vendors)
        urls = {"url": vendors.base_url, "control": vendors.base_url + "/_control"}
        hooks = {"hook": subscriber.url, "slack": subscriber.slack_url} if subscriber else {}
        sys.stdout.write(json.dumps({**urls, **hooks, "vendors": vendors.urls}) + "\n")
        sys.stdout.flush()
        await stop.wait()


def example(account: str) -> str:
    """Return a command that submits a job to a simulated account."""
    model = next(job["model"] for name, _, job in SAMPLE_JOBS if name == account)
    options = f'--account {account} --model {model} --prompt "a cat surfing" --set duration=5'
    return f"orchestrator submit {options} --wait"


def configuration(url: str) -> str:
    """Return an `orchestrator.toml` for the simulated accounts."""
    lines = ['allow_private = ["127.0.0.0/8"]']
    for account, _ in SIMULATED:
        lines += ["", f"# {example(account)}", f"[accounts.{account}]"]
        for key, value in account_settings(url, account).items():
            # Strings and lists are alike in JSON and TOML; objects are not.
            if isinstance(value, dict):
                lines += [f"{key}.{name} = {json.dumps(item)}" for name, item in value.items()]
            else:
                lines.append(f"{key} = {json.dumps(value)}")
        lines += ["poll = { first_after = 5, interval = 2 }"]
    return "\n".join(lines) + "\n"


def main() -> None:
    options = arguments()
    if options.accounts:
        sys.stdout.write(configuration(f"http://{options.host}:{options.port}"))
        return
    factory = uvicorn.Config("", log_config=None).get_loop_factory()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(run(options))
    except OSError as error:
        if error.errno not in _ADDRESS_ERRORS:
            raise
        hint = "choose others with --port and --subscriber-port"
        sys.exit(f"error: cannot listen on {options.host}: {error.strerror}; {hint}")


if __name__ == "__main__":
    main()
