"""Jobs: the ledger is the only writer of job state; a transition is a pure function."""
