"""The store and its two backends: units of work, the queue, lists, the schema."""
