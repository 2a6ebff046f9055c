"""SQLite: one writing connection, several readers, one process."""
