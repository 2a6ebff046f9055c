"""A service is ready before it has loaded what it needs later, or never."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: Run twice: the first process migrates the database, the second starts as services do.
START = """
import asyncio, sys
from pathlib import Path
from orchestrator.cli import service, serve
from orchestrator.app import create_app
from orchestrator.foundation.settings import load

async def start(app):
    async with app.router.lifespan_context(app):
        print(*sys.modules)

asyncio.run(start(create_app(load(Path(sys.argv[1])))))
"""
CONFIG = """
database_url = "sqlite:///{folder}/start.db"
secret_keys = ["{key}"]
[accounts.main]
vendor = "kling"
base_url = "http://127.0.0.1:9"
api_key = "k"
"""
LATE = {
    # Until a schema is old.
    "alembic",
    # Until something is sent, or the service has settled.
    "aiohttp", "yarl", "orchestrator.egress.transport",
    "apscheduler.schedulers.base",
    # Until an account signs in with an access key.
    "jwt", "cryptography.x509",
    # Until the first page.
    "jinja2", "orchestrator.dashboard.routes", "orchestrator.dashboard.endpoint",
    # Until a subscriber of that kind.
    "aio_pika", "aiokafka", "aiosmtplib", "apprise", "nats", "redis",
    # With another database, for `demo`, or never.
    "psycopg", "orchestrator.simulator",
}  # fmt: skip


def test_a_start_loads_nothing_that_readiness_does_not_need(tmp_path: Path) -> None:
    config = tmp_path / "orchestrator.toml"
    config.touch(mode=0o600)
    config.write_text(CONFIG.format(folder=tmp_path, key="k" * 40))
    command = [sys.executable, "-c", START, str(config)]
    for _ in range(2):
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "orchestrator.engine.lifecycle" in loaded
    assert not loaded & LATE
