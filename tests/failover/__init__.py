"""Failover suite: the service on PostgreSQL under Patroni, whose primary is killed under load.

    python -m tests.failover [--kills N] [--only NAME]     table: how it is reached x replication

run.py       one run: load, kills, audit       callers.py   orders, and when they were acknowledged
kills.py     how a primary dies                patroni.py   etcd, and three servers under Patroni
routes.py    HAProxy, PgBouncer, several hosts daemons.py   the programs, and where they come from
"""
