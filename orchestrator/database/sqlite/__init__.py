"""SQLite: one writer thread, many readers, one process."""
