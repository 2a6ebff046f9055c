"""Jobs: the ledger, the only writer of job state; transitions, capacity and push health."""
