"""Excludes the tests that need curl if it is not installed. No Python package provides it."""

from __future__ import annotations

import shutil

collect_ignore = [] if shutil.which("curl") else ["test_curl.py"]
