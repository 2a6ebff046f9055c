"""Values that the examples of all resources share: they show one job, from end to end."""

from __future__ import annotations

from datetime import UTC, datetime

BASE = "https://hooks.example.com"
IDS = {
    prefix: f"{prefix}_01m3w5yt8hf6v9dk2r4qz7xneb"
    for prefix in ("job", "evt", "sub", "dlv", "key", "rpl")
}
HOOK = "https://shop.example/hooks/video"
CREATED = datetime(2026, 11, 20, 10, tzinfo=UTC)
FINISHED = datetime(2026, 11, 20, 10, 1, 12, 480_000, tzinfo=UTC)
NEXT_DAY = datetime(2026, 11, 21, 10, tzinfo=UTC)
