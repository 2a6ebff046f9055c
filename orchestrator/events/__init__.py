"""Events: the outbox, the log in commit order, its feed, subscribers, and the kinds of destinations."""
