"""Alembic migrations: `env.py` runs them, `versions/` holds them.

A new one is `versions/<number>_what_it_does.py`, written from `script.py.mako`; `tables` changes
with it, and `tests/database/test_schema.py` compares the two. Forward only: a downgrade would
delete what was written since, so there is none; restore a backup instead. A released revision is
never edited. Tables that SQLite cannot alter in place are changed with `op.batch_alter_table`, a
plain ALTER on PostgreSQL.
"""
