"""The way from one schema to the next, for Alembic: `env.py` runs them, `versions/` holds them, oldest first.

The next one is `versions/<number>_what_it_does.py`, written from `script.py.mako`; `tables` changes with it, and
`tests/database/test_schema.py` says where the two differ. It goes forward only: a downgrade would have to throw away
what was written since, so there is none; go back by restoring a backup. A revision that was released is never edited.
Tables that SQLite cannot alter in place are changed with `op.batch_alter_table`, a plain ALTER on PostgreSQL.
"""
