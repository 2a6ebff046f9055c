"""What a claim permits: a request leaves only while its claim is this process's own.

A process may stand still at any moment, also while it connects: SIGSTOP, a sleeping machine, a slow
network. So this is checked just before the first byte of a request leaves.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.database.membership import Membership
from orchestrator.database.queue import QueuedDelivery
from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.clock import Clock, after


def permit(
    claim: JobRow | QueuedDelivery, membership: Membership, clock: Clock, timeout: float
) -> Callable[[], bool]:
    """Return a function that tells whether the request of a claim may leave now.

    Its exchange, of up to `timeout` seconds, has to end before the lease does: a lease fences rows,
    not the vendor, which would accept a job twice. And the process must still hold the number that
    it claimed with: others take back the claims of one that is lost.
    """
    due, number = claim["due_at"], claim["claimed_by"]
    assert due is not None
    latest = after(due, -timeout)
    return lambda: clock.now() <= latest and membership.holds(number)
