"""`python -m tests.chaos.world`: the simulator, which also reports the bytes it was sent and what came twice."""

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

#: Submissions that vendors refused because they have them already, by vendor.
_repeated: Counter[str] = Counter()
_plain_report, _plain_refuse = control.report, VendorApi._refuse


def report(world: SimulatedVendors, subscriber: Subscriber | None = None) -> JsonObject:
    """Return all that happened, bodies as their digests."""
    told = _plain_report(world, subscriber)
    digests = (
        [hashlib.sha256(one.body).hexdigest() for one in subscriber.received] if subscriber else []
    )
    return {**told, "digests": [*digests], "repeated": dict(_repeated)}


def refuse(gateway: VendorApi, path: str, refusal: Refusal) -> Response:
    """Refuse, and count what came twice."""
    _repeated[gateway.dialect.mount] += refusal.kind is ErrorKind.DUPLICATE
    return _plain_refuse(gateway, path, refusal)


if __name__ == "__main__":
    # Where the simulator itself looks them up.
    vars(control).update(report=report)
    setattr(VendorApi, _plain_refuse.__name__, refuse)
    main()
