"""`python -m tests.brokers.install`: what the brokers need that no package of `.venv` brings."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.brokers.servers.kafka import JARS
from tests.brokers.servers.rabbitmq import PROGRAM
from tests.brokers.servers.redis import RedisServer
from tests.harness.debian import Missing, install

_POM = Path(__file__).with_name("pom.xml")


def missing() -> list[str]:
    """Return the packages of Debian that are not installed."""
    wanted = {
        "rabbitmq-server": PROGRAM.exists(),
        "default-jre-headless": shutil.which("java") is not None,
        "maven": JARS.exists() or shutil.which("mvn") is not None,
        "redis-server": not RedisServer.absent(),
    }
    return [name for name, is_there in wanted.items() if not is_there]


def fetch_kafka() -> None:
    """Fetch the jars of Kafka, once."""
    if JARS.exists():
        return
    print("fetching Kafka, once", file=sys.stderr, flush=True)
    part = JARS.with_suffix(".part")
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={part}"]
    subprocess.run(["mvn", "-q", "-B", "-f", str(_POM), *goal], check=True)
    part.rename(JARS)


if __name__ == "__main__":
    try:
        install(missing())
        fetch_kafka()
    except (Missing, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
