"""What these tests need of the machine itself: curl. Python has no package of it, so without it they are left out."""

from __future__ import annotations

import shutil

collect_ignore = [] if shutil.which("curl") else ["test_curl.py"]
