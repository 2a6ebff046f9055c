"""`python -m tests.chaos.simulator`: also reports digests of deliveries and duplicate orders.

It has a second subscriber, at `/hook?ordered`, that fails now and then, and reports what arrived.
"""

from __future__ import annotations

import hashlib
from collections import Counter

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from orchestrator.simulator import control
from orchestrator.simulator.__main__ import main
from orchestrator.simulator.errors import ErrorKind, Refusal
from orchestrator.simulator.json_body import JsonObject
from orchestrator.simulator.subscriber import Subscriber
from orchestrator.simulator.vendor_api import VendorApi
from orchestrator.simulator.vendors import SimulatedVendors

#: Duplicate submissions that vendors refused, by vendor.
_repeated: Counter[str] = Counter()
#: What arrived at the ordered subscriber, oldest first: job, sequence, and whether it accepted.
_ordered: list[tuple[str, int, bool]] = []
#: It refuses one of so many attempts, and no event twice.
_REFUSED = 4
_plain_report, _plain_refuse, _plain_hook = control.report, VendorApi._refuse, Subscriber._hook


def report(world: SimulatedVendors, subscriber: Subscriber | None = None) -> JsonObject:
    """Return the report of the simulator with digests of the received bodies."""
    found = _plain_report(world, subscriber)
    digests = (
        [hashlib.sha256(delivery.body).hexdigest() for delivery in subscriber.received]
        if subscriber
        else []
    )
    return {
        **found,
        "digests": [*digests],
        "repeated": dict(_repeated),
        "ordered": [[*each] for each in _ordered],
    }


def refuse(gateway: VendorApi, path: str, refusal: Refusal) -> Response:
    """Refuse a request, and count a duplicate submission."""
    _repeated[gateway.dialect.mount] += refusal.kind is ErrorKind.DUPLICATE
    return _plain_refuse(gateway, path, refusal)


async def hook(subscriber: Subscriber, request: Request) -> Response:
    """Answer a delivery, to the ordered subscriber or the plain one."""
    if request.url.query != "ordered":
        return await _plain_hook(subscriber, request)
    body = await request.json()
    job, sequence = body["data"]["id"], body["sequence"]
    accepted = len(_ordered) % _REFUSED > 0 or (job, sequence, False) in _ordered
    _ordered.append((job, sequence, accepted))
    return PlainTextResponse("", 200 if accepted else 500)


if __name__ == "__main__":
    # The simulator looks them up here.
    vars(control).update(report=report)
    setattr(VendorApi, _plain_refuse.__name__, refuse)
    setattr(Subscriber, _plain_hook.__name__, hook)
    main()
