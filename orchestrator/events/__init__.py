"""Events: the transactional outbox, the log in commit order, the feed, subscribers and kinds."""
