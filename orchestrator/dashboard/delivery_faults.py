"""What a failed attempt at a delivery means, and so what can be done about it."""

from __future__ import annotations

from orchestrator.foundation.states import FINAL_STATUS

#: The end of a text's key, by the API's word for what happened.
_FAULTS = {
    "timeout": "slow",
    "redirect_not_followed": "redirect",
    "blocked_address": "blocked",
    "secret_unreadable": "secret",
    "subscriber_deleted": "deleted",
    "status_401": "credentials",
    "status_403": "credentials",
    "status_404": "address",
    "status_405": "address",
    "status_410": "gone",
    "status_408": "slow",
    "status_425": "busy",
    "status_429": "busy",
}


def fault_of(error: str | None) -> str:
    """Return the key of a text about the word of an attempt's error; empty without one."""
    if not error:
        return ""
    if error.startswith(FINAL_STATUS):
        return "fault.final"
    if error in _FAULTS:
        return f"fault.{_FAULTS[error]}"
    if error.startswith("status_5"):
        return "fault.broken"
    if error.startswith("status_"):
        return "fault.refused"
    if error.startswith(("certificate_", "tls_")):
        return "fault.certificate"
    return "fault.unreachable"
