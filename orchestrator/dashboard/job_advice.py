"""What can be done about a failed job, by its error."""

from __future__ import annotations

import re
from typing import Any

#: Errors that may be the verdict of a vendor's content moderation.
_VERDICTS = ("vendor_failed", "vendor_refused")
#: Words of such a verdict, in codes and messages of vendors (`error_codes.BY_WORD` has some).
_MODERATED = re.compile(
    r"sensitive|moderat|risk[ _-]?control|content[ _-]?(policy|filter|safety|violation)"
    r"|prompt_blocked|敏感|审核|风控|违规",
    re.IGNORECASE,
)


def advice_of(job: dict[str, Any]) -> tuple[str, ...]:
    """Return the keys of texts that say what to do about a job's error; none without one."""
    error = job["error"]
    if not error:
        return ()
    words = f"{error.get('vendor_code') or ''} {error.get('vendor_message') or ''}"
    if error["code"] in _VERDICTS and _MODERATED.search(words):
        charged = "unknown" if job.get("billing") is None else "known"
        return ("advice.moderated", f"advice.moderated.{charged}")
    return (f"advice.{error['code']}",)
