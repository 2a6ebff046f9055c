"""`python -m tests.chaos.simulator`: also reports digests of deliveries and duplicate orders."""

from __future__ import annotations

import hashlib
from collections import Counter

from starlette.responses import Response

from orchestrator.simulator import control
from orchestrator.simulator.__main__ import main
from orchestrator.simulator.errors import ErrorKind, Refusal
from orchestrator.simulator.json_body import JsonObject
from orchestrator.simulator.subscriber import Subscriber
from orchestrator.simulator.vendor_api import VendorApi
from orchestrator.simulator.vendors import SimulatedVendors

#: Duplicate submissions that vendors refused, by vendor.
_repeated: Counter[str] = Counter()
_plain_report, _plain_refuse = control.report, VendorApi._refuse


def report(world: SimulatedVendors, subscriber: Subscriber | None = None) -> JsonObject:
    """Return the report of the simulator with digests of the received bodies."""
    found = _plain_report(world, subscriber)
    digests = (
        [hashlib.sha256(delivery.body).hexdigest() for delivery in subscriber.received]
        if subscriber
        else []
    )
    return {**found, "digests": [*digests], "repeated": dict(_repeated)}


def refuse(gateway: VendorApi, path: str, refusal: Refusal) -> Response:
    """Refuse a request, and count a duplicate submission."""
    _repeated[gateway.dialect.mount] += refusal.kind is ErrorKind.DUPLICATE
    return _plain_refuse(gateway, path, refusal)


if __name__ == "__main__":
    # The simulator looks them up here.
    vars(control).update(report=report)
    setattr(VendorApi, _plain_refuse.__name__, refuse)
    main()
