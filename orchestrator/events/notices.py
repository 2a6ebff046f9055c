"""The words of a notification: what each type of event means, and what to do next.

`notification` fills in the braces. `{lasting}` is how long it has lasted and since when, or empty;
`{code}` an error code of a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """How much a notification matters."""

    GOOD = "good"
    INFO = "info"
    #: It may repair itself.
    WARNING = "warning"
    #: Something failed, or waits until a person acts.
    BAD = "bad"


class Notice(NamedTuple):
    """The words of a type of event. `is_over`: it ends what an earlier event began."""

    icon: str
    severity: Severity
    title: str
    meaning: str = ""
    next_step: str = ""
    is_over: bool = False


_GOOD, _INFO, _WARNING, _BAD = Severity
_RETRY = "orchestrator jobs retry {id}"
_CHECK = "orchestrator accounts check {name}"

NOTICES: Mapping[str, Notice] = {
    "job.submitted": Notice("📤", _INFO, "Video submitted"),
    "job.processing": Notice("⏳", _INFO, "Video in the making"),
    "job.succeeded": Notice("✅", _GOOD, "Video ready", is_over=True),
    "job.failed": Notice("❌", _BAD, "Video failed"),
    "job.canceled": Notice("🚫", _INFO, "Video canceled", is_over=True),
    "job.expired": Notice(
        "⌛",
        _BAD,
        "Video expired",
        "The vendor reported no result before the deadline. A result that arrives late is still "
        "announced.",
        "Look in the vendor's console whether it was rendered, before you pay for another: "
        f"{_RETRY}",
    ),
    "job.stuck": Notice(
        "⚠️",
        _WARNING,
        "The vendor does not know the task",
        "It accepted the task, and now answers that there is none. It is asked again; in the end "
        "the job fails.",
        "Check that base_url and key of the account are those the job was submitted with.",
    ),
    "job.archived": Notice("🗄️", _INFO, "Video archived"),
    "subscriber.failing": Notice(
        "⚠️",
        _WARNING,
        "Deliveries to {url} fail; they are retried",
        "Every attempt has failed{lasting}. Nothing is lost. After five days without a success the "
        "subscriber is switched off.",
        "Read what it answers: orchestrator deliveries ls --subscriber {id}",
    ),
    "subscriber.recovered": Notice(
        "✅",
        _GOOD,
        "Deliveries to {url} arrive again",
        "What waited for a retry is sent now.",
        is_over=True,
    ),
    "subscriber.disabled": Notice(
        "⛔",
        _BAD,
        "Events for {url} are held: the subscriber is switched off",
        "Its deliveries are held, not lost.",
        "Repair the receiver or its address, then send what is held: "
        "orchestrator subscribers resume {id}",
    ),
    "subscriber.test": Notice(
        "👋", _INFO, "Test event", "Messages about jobs and accounts arrive here."
    ),
    "account.paused": Notice(
        "⏸️",
        _WARNING,
        "The vendor limits submissions of account {name}; its jobs wait",
        "Submissions go on by themselves{until}.",
        "If it happens often, lower max_in_flight or rate_limit of the account, or ask the vendor "
        "for more.",
    ),
    "account.unauthorized": Notice(
        "⛔",
        _BAD,
        "The vendor refuses the key of account {name}; its jobs wait",
        "Submissions have been held{lasting}. Jobs expire at their deadlines.",
        "Correct the key or the vendor's list of allowed addresses, restart, then: " + _CHECK,
    ),
    "account.exhausted": Notice(
        "⛔",
        _BAD,
        "The balance of account {name} is used up; its jobs wait",
        "Submissions have been held{lasting}. Jobs expire at their deadlines.",
        "Add credit in the vendor's console. One job at a time tries whether the vendor accepts "
        "again.",
    ),
    "account.recovered": Notice(
        "✅",
        _GOOD,
        "The vendor accepts jobs of account {name} again",
        "What waited is submitted now. It lasted{span}.",
        is_over=True,
    ),
    "account.push_degraded": Notice(
        "⚠️",
        _WARNING,
        "Pushes for account {name} have stopped",
        "{count} jobs in a row completed without a push. Their results are polled for, so they "
        "arrive later, and none is lost.",
        "Check that public_url can be reached from outside: orchestrator doctor",
    ),
    "account.push_recovered": Notice(
        "✅",
        _GOOD,
        "Pushes for account {name} are back",
        "Results arrive at once again.",
        is_over=True,
    ),
    "ingress.unreachable": Notice(
        "⛔",
        _BAD,
        "{url} cannot be reached from outside",
        "A test callback has not come back{lasting}. Pushes of vendors are lost meanwhile; results "
        "are polled for.",
        "Check DNS, certificate, proxy and firewall of public_url: orchestrator doctor",
    ),
    "ingress.recovered": Notice(
        "✅",
        _GOOD,
        "{url} can be reached again",
        "Test callbacks come back. It lasted{span}.",
        is_over=True,
    ),
}

#: What to do about a failed job, by its error code.
ADVICE: Mapping[str, str] = {
    "vendor_failed": "The render failed at the vendor. If its words name no reason, try again: "
    + _RETRY,
    "vendor_refused": "Change the request as the vendor's words say: the same one is refused "
    "again.",
    "vendor_auth": "Correct the key of the account or the vendor's list of allowed addresses, "
    "then: " + _RETRY,
    "account_exhausted": "Add credit, or the right to the model, in the vendor's console, then: "
    + _RETRY,
    "vendor_unavailable": "The vendor was not available for long. Try again later: " + _RETRY,
    "submit_unknown": "The answer to the submission was lost. Look in the vendor's console whether "
    "it was rendered, before you pay for another: " + _RETRY,
    "output_missing": "The vendor reports success without a file. Look in its console, or ask its "
    "support.",
    "input_missing": "An image of the request is no longer stored: submit the job again with it.",
    "input_unsupported": "The vendor cannot carry the request since the configuration has changed: "
    "submit it to another account or model.",
}
