"""The store and its two backends: units of work, queue, lists, schema."""
