"""The demo keeps its promises and prints them in one JSON document."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.demo import for_people
from orchestrator.simulator.sample_jobs import SAMPLE_JOBS
from tests.harness.fork_server import command as forked

pytestmark = pytest.mark.long


def performed(tmp_path: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Return the summary of a demo in an empty folder, and its output on stderr."""
    command = forked("orchestrator", "demo", "--json", *options)
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary, done.stderr


def test_the_demo_completes_every_order_and_notifies_every_subscriber_once(tmp_path: Path) -> None:
    summary, seen = performed(tmp_path, "--speed", "2")
    assert summary["jobs"] == summary["succeeded"] == len(SAMPLE_JOBS)
    assert summary["failed"] == 0
    assert summary["resolved_by"]["push"] > 0
    assert summary["resolved_by"]["poll"] > 0
    assert sum(summary["resolved_by"].values()) == len(SAMPLE_JOBS)
    assert summary["deliveries"] == {"delivered": 2 * len(SAMPLE_JOBS), "dead": 0}
    assert summary["verified_signatures"] >= len(SAMPLE_JOBS)
    assert summary["duplicate_completions"] == 0
    assert sum(vendor["jobs"] for vendor in summary["by_vendor"].values()) == len(SAMPLE_JOBS)
    assert summary["seconds"] < 85
    assert seen.count(" by push, 2 delivered") == summary["resolved_by"]["push"]
    assert all(len(line) <= 80 for line in [*seen.splitlines(), *for_people(summary).splitlines()])
    assert (
        f"{len(SAMPLE_JOBS)} webhooks (every signature verified), {len(SAMPLE_JOBS)} Slack messages"
        in for_people(summary)
    )
    assert "uniall has no pushes" in for_people(summary)
    assert list(tmp_path.iterdir()) == [], "the demo left something behind"


def test_without_a_single_push_everything_still_completes(tmp_path: Path) -> None:
    summary, _ = performed(tmp_path, "--drop-push", "1", "--duplicate-push", "1", "--speed", "2")
    assert summary["resolved_by"] == {"push": 0, "poll": len(SAMPLE_JOBS)}
    assert summary["succeeded"] == len(SAMPLE_JOBS)
