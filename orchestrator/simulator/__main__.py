"""`python -m orchestrator.simulator`: the simulator as a process of its own, controlled over HTTP under /_control.

Prints one line of JSON with its URLs when ready, and ends cleanly on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import signal
import sys

import uvicorn

from orchestrator.simulator.accounts import SIMULATED, account_settings
from orchestrator.simulator.control import Control
from orchestrator.simulator.faults import Faults
from orchestrator.simulator.orders import ORDERS
from orchestrator.simulator.subscriber import Subscriber
from orchestrator.simulator.world import World

#: What a system says of an address that cannot be had.
_NOT_OURS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)


def faults(words: str) -> Faults:
    """Faults out of a command line's JSON. argparse makes exit code 2 of what is wrong with it."""
    try:
        return Faults.from_json(json.loads(words))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="orchestrator.simulator", description="Gateways that speak every dialect."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--render-seconds", type=float, default=1.0, help="mean time a render takes"
    )
    parser.add_argument(
        "--faults", type=faults, default=Faults(), help='JSON, e.g. {"drop_push": 0.3}'
    )
    parser.add_argument("--push-retries", type=int, default=0)
    parser.add_argument(
        "--accounts", action="store_true", help="print a configuration for its accounts, and end"
    )
    parser.add_argument(
        "--subscriber-port", type=int, help="also run a subscriber; 0 picks a free port"
    )
    return parser.parse_args()


async def run(given: argparse.Namespace) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        subscriber = None
        if given.subscriber_port is not None:
            subscriber = await stack.enter_async_context(
                Subscriber(port=given.subscriber_port, host=given.host)
            )
        world = World(
            given.seed,
            given.render_seconds,
            given.faults,
            port=given.port,
            host=given.host,
            push_retries=given.push_retries,
        )
        world.add(Control(world, subscriber).mount())
        await stack.enter_async_context(world)
        urls = {"url": world.base_url, "control": world.base_url + "/_control"}
        hooks = {"hook": subscriber.url, "slack": subscriber.slack_url} if subscriber else {}
        vendors = {vendor: world.url(vendor) for vendor in world.vendors}
        sys.stdout.write(json.dumps({**urls, **hooks, "vendors": vendors}) + "\n")
        sys.stdout.flush()
        await stop.wait()


def example(account: str) -> str:
    """Return a command that submits a job to a simulated account."""
    model = next(order["model"] for name, _, order in ORDERS if name == account)
    return f'orchestrator submit --account {account} --model {model} --prompt "a cat surfing" --set duration=5 --wait'


def configuration(url: str) -> str:
    """Return an `orchestrator.toml` for the simulated accounts."""
    lines = ['allow_private = ["127.0.0.0/8"]']
    for name, _ in SIMULATED:
        settings = account_settings(url, name)
        lines += ["", f"# {example(name)}", f"[accounts.{name}]"]
        for key, value in settings.items():
            # JSON's texts and lists are TOML's; its objects are not.
            if isinstance(value, dict):
                lines += [f"{key}.{word} = {json.dumps(said)}" for word, said in value.items()]
            else:
                lines.append(f"{key} = {json.dumps(value)}")
        lines += ["poll = { first_after = 5, interval = 2 }"]
    return "\n".join(lines) + "\n"


def main() -> None:
    given = arguments()
    if given.accounts:
        sys.stdout.write(configuration(f"http://{given.host}:{given.port}"))
        return
    factory = uvicorn.Config("", log_config=None).get_loop_factory()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(run(given))
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
        sys.exit(
            f"error: cannot listen on {given.host}: {error.strerror}; --port and --subscriber-port name others"
        )


if __name__ == "__main__":
    main()
