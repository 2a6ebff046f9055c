"""Migrations: from nothing, from every schema there was, on both databases, all of the way or not at all."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import orchestrator
from orchestrator.database import schema
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.sqlite import engine as sqlite
from orchestrator.database.tables import metadata
from orchestrator.foundation.errors import ConfigError
from tests.harness import databases
from tests.harness.command_line import isolate, run

FOLDER = Path(orchestrator.__file__).parent / "database" / "migrations"
REVISIONS = [one.revision for one in ScriptDirectory(str(FOLDER)).walk_revisions()][::-1]
NEWEST = REVISIONS[-1]
BEFORE = Path(__file__).parents[1] / "samples" / "before_revisions.sql"
#: Done to a job's table that SQLite cannot alter in place.
CHANGE = """with op.batch_alter_table("job") as job:
        job.alter_column("api_key", existing_type=sa.String(), nullable=True)
        job.add_column(sa.Column("note", sa.String()))"""


@pytest.fixture(params=databases.KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a new database of each kind, without tables."""
    address = databases.url(request.param, tmp_path, empty=True)
    yield address
    databases.drop(address)


@pytest.fixture
def engine(database: str) -> Iterator[sa.Engine]:
    """A new database, to be written."""
    opened = engine_of(database)
    yield opened
    opened.dispose()


def engine_of(url: str) -> sa.Engine:
    return postgres.engine_of(url, 3) if postgres.is_postgres(url) else sqlite.engines(url)[0]


def upto(revision: str, folder: Path) -> Path:
    """Return a copy of the migrations that knows none after `revision`."""
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in folder.glob("versions/[0-9]*.py"):
        if file.name[:4] > revision:
            file.unlink()
    return folder


def following(folder: Path, change: str = CHANGE) -> str:
    """Add a migration after the newest in a copy, as a developer would; return its revision."""
    revision = f"{int(NEWEST) + 1:04}"
    assert ScriptDirectory(str(folder)).generate_revision(revision, "one more", upgrades=change)
    return revision


def indexes(tx: sa.Connection) -> dict[str, object]:
    """Return what keeps each table's rows apart and makes them easy to find: columns in order, and conditions."""
    see = sa.inspect(tx)
    found: dict[str, object] = {}
    for table in metadata.tables:
        plain = {
            (
                one["name"],
                *one["column_names"],
                one["unique"],
                condition(one.get("dialect_options", {})),
            )
            for one in see.get_indexes(table)
            if "duplicates_constraint" not in one
        }
        unique = {tuple(one["column_names"]) for one in see.get_unique_constraints(table)}
        found[table] = see.get_pk_constraint(table)["constrained_columns"], unique, plain
    return found


def condition(options: Any) -> str:
    return "".join(str(value) for name, value in options.items() if name.endswith("_where"))


def row_of(table: sa.Table) -> dict[str, Any]:
    """Return a row with something in every column."""
    made: dict[type, object] = {str: table.name, int: 7, float: 0.5, bool: True, bytes: b"\x00\xff"}
    return {column.name: made[column.type.python_type] for column in table.columns}


def present(tx: sa.Connection) -> list[str]:
    """Return our tables that a schema has; an older one has fewer."""
    return [name for name in metadata.tables if sa.inspect(tx).has_table(name)]


def rows(tx: sa.Connection) -> dict[str, list[dict[str, Any]]]:
    """Return every row of every table there is, as the database itself sees them."""
    seen = {name: sa.Table(name, sa.MetaData(), autoload_with=tx) for name in present(tx)}
    return {
        name: [dict(row._mapping) for row in tx.execute(sa.select(table))]
        for name, table in seen.items()
    }


def fill(tx: sa.Connection) -> dict[str, list[dict[str, Any]]]:
    """Put a row into every table there is and return them all."""
    for name in present(tx):
        table = sa.Table(name, sa.MetaData(), autoload_with=tx)
        tx.execute(table.insert(), row_of(table))
    return rows(tx)


def columns(tx: sa.Connection, table: str) -> set[str]:
    return {one["name"] for one in sa.inspect(tx).get_columns(table)}


def test_from_nothing_to_just_what_the_code_declares(engine: sa.Engine, tmp_path: Path) -> None:
    with engine.begin() as tx:
        assert schema.upgrade(tx) == REVISIONS
        assert schema.current(tx) == schema.head() == NEWEST
        schema.check(tx)
    with engine.begin() as tx:
        options = {"version_table": schema.VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(tx, opts=options), metadata) == []
        made = indexes(tx)
        assert "due_at IS NOT NULL" in str(made["job"])
        metadata.drop_all(tx)
        metadata.create_all(tx)
        assert indexes(tx) == made, (
            "the order of columns and the conditions too, which the comparison does not see"
        )


def test_a_second_upgrade_finds_nothing_to_do(engine: sa.Engine) -> None:
    with engine.begin() as tx:
        schema.upgrade(tx)
        kept = fill(tx)
    with engine.begin() as tx:
        assert schema.upgrade(tx) == []
        assert rows(tx) == kept


@pytest.mark.parametrize(("before", "after"), list(pairwise(REVISIONS)))
def test_every_migration_keeps_what_its_predecessor_wrote(
    engine: sa.Engine, tmp_path: Path, before: str, after: str
) -> None:
    with engine.begin() as tx:
        schema.upgrade(tx, upto(before, tmp_path / "before"))
        kept = fill(tx)
    with engine.begin() as tx:
        assert schema.upgrade(tx, upto(after, tmp_path / "after")) == [after]
        now = rows(tx)
    for table, (row,) in kept.items():
        (grown,) = now[table]
        assert {name: grown[name] for name in row if name in grown} == row


def test_the_next_migration_is_written_from_the_template(engine: sa.Engine, tmp_path: Path) -> None:
    """Also where SQLite has to copy the table: rows, unique columns and conditions of indexes come along."""
    folder = upto(NEWEST, tmp_path / "100% migrations")
    revision = following(folder)
    with engine.begin() as tx:
        schema.upgrade(tx)
        kept, before = fill(tx)["job"], indexes(tx)
    with engine.begin() as tx:
        assert schema.upgrade(tx, folder) == [revision]
        assert schema.title(revision, folder) == f"{revision} one more"
        assert rows(tx)["job"] == [{**kept[0], "note": None}]
        assert indexes(tx) == before


def test_a_migration_that_fails_half_way_changed_nothing(engine: sa.Engine, tmp_path: Path) -> None:
    folder = upto(NEWEST, tmp_path / "migrations")
    following(folder, CHANGE + '\n    raise RuntimeError("half-way")')
    with engine.begin() as tx:
        schema.upgrade(tx)
        kept = fill(tx)
    with pytest.raises(RuntimeError, match="half-way"), engine.begin() as tx:
        schema.upgrade(tx, folder)
    with engine.begin() as tx:
        schema.check(tx)
        assert rows(tx) == kept
        assert "note" not in columns(tx, "job")


def test_the_template_cannot_be_left_empty(engine: sa.Engine, tmp_path: Path) -> None:
    folder = upto(NEWEST, tmp_path / "migrations")
    following(folder, "")
    with pytest.raises(NotImplementedError), engine.begin() as tx:
        schema.upgrade(tx, folder)


@pytest.mark.parametrize(
    "file", sorted(FOLDER.glob("versions/[0-9]*.py")), ids=lambda file: file.stem
)
def test_migrations_go_forward_only(file: Path) -> None:
    assert "def upgrade()" in file.read_text()
    assert "def downgrade" not in file.read_text()


def test_a_database_that_is_behind_is_told_from_an_empty_one(
    engine: sa.Engine, tmp_path: Path
) -> None:
    with engine.begin() as tx:
        with pytest.raises(
            ConfigError, match=f"has no tables yet.* needs {NEWEST}; run `orchestrator migrate`"
        ):
            schema.check(tx)
        schema.upgrade(tx, upto("0001", tmp_path / "migrations"))
        with pytest.raises(
            ConfigError, match=f"has schema 0001.* needs {NEWEST}; run `orchestrator migrate`"
        ):
            schema.check(tx)


def test_a_newer_database_is_left_alone(engine: sa.Engine) -> None:
    with engine.begin() as tx:
        schema.upgrade(tx)
        tx.exec_driver_sql("UPDATE schema_version SET version_num = '9999'")
    for look in (schema.check, schema.upgrade):
        with (
            engine.begin() as tx,
            pytest.raises(ConfigError, match=r"schema 9999, which a newer .* upgrade orch"),
        ):
            look(tx)


def test_tables_of_somebody_else_are_left_alone(engine: sa.Engine) -> None:
    with engine.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE event (id VARCHAR)")
        tx.exec_driver_sql("CREATE TABLE theirs (id VARCHAR)")
    for look in (schema.check, schema.upgrade):
        with (
            engine.begin() as tx,
            pytest.raises(ConfigError, match=r"has tables \(event\) and no schema_version"),
        ):
            look(tx)
    with engine.begin() as tx:
        assert set(sa.inspect(tx).get_table_names()) == {"event", "theirs"}


def test_tables_of_other_names_are_no_hindrance(engine: sa.Engine) -> None:
    with engine.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE theirs (id VARCHAR)")
        assert schema.upgrade(tx) == REVISIONS


def test_a_password_is_not_shown() -> None:
    url = postgres.url_of("postgres://me:s3cret@db.example.com/jobs?password=s3cret")
    assert schema.named(url) == "postgresql://me:***@db.example.com/jobs"


@pytest.fixture
def first(tmp_path: Path) -> Iterator[sa.Engine]:
    """A SQLite database as it was made before there were revisions."""
    opened = engine_of(databases.url("sqlite", tmp_path, empty=True))
    with opened.begin() as tx:
        for statement in BEFORE.read_text(encoding="utf-8").split(";\n"):
            tx.exec_driver_sql(statement)
    yield opened
    opened.dispose()


def test_a_database_from_before_there_were_revisions_is_taken_over(first: sa.Engine) -> None:
    with first.begin() as tx:
        kept = fill(tx)
        with pytest.raises(
            ConfigError, match=r"before schemas had numbers; run `orchestrator migrate`"
        ):
            schema.check(tx)
        assert not sa.inspect(tx).has_table("schema_version"), "to look changes nothing"
        assert schema.upgrade(tx) == REVISIONS[1:]
        schema.check(tx)
        assert {row["id"] for row in rows(tx)["job"]} == {row["id"] for row in kept["job"]}


@pytest.mark.parametrize(
    ("change", "table"),
    [
        ("ALTER TABLE push ADD COLUMN more VARCHAR", "push"),
        ("DROP INDEX ix_job_due", "job"),
        ("DROP INDEX ix_job_deadline; CREATE INDEX ix_job_deadline ON job (deadline_at)", "job"),
        ("DROP TABLE api_key", "api_key"),
        ("CREATE UNIQUE INDEX more ON event (type)", "event"),
    ],
)
def test_one_that_differs_is_refused_by_the_name_of_what_differs(
    first: sa.Engine, change: str, table: str
) -> None:
    with first.begin() as tx:
        for statement in change.split("; "):
            tx.exec_driver_sql(statement)
        with pytest.raises(
            ConfigError, match=rf"not those of the first schema \({table}\); name a database"
        ):
            schema.upgrade(tx)
        assert not sa.inspect(tx).has_table("schema_version")


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[sa.Engine]:
    address = databases.url("postgresql", tmp_path, empty=True)
    opened = engine_of(address)
    yield opened
    opened.dispose()
    databases.drop(address)


def test_replicas_that_begin_at_once_migrate_once(shared: sa.Engine) -> None:
    def second() -> list[str]:
        with shared.begin() as tx:
            return schema.upgrade(tx)

    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with (
        ThreadPoolExecutor(1) as beside,
        shared.connect().execution_options(isolation_level="AUTOCOMMIT") as other,
    ):
        with shared.begin() as tx:
            assert schema.upgrade(tx) == REVISIONS
            late = beside.submit(second)
            until = time.monotonic() + 30
            while not other.scalar(waiting):
                assert time.monotonic() < until
        assert late.result(30) == []


def test_postgresql_is_told_which_tables_change_often(shared: sa.Engine) -> None:
    with shared.begin() as tx:
        schema.upgrade(tx)
        found = tx.execute(
            sa.text(
                "SELECT relname, reloptions FROM pg_class WHERE reloptions IS NOT NULL AND relkind = 'r'"
            )
        )
        options = {name: set(settings) for name, settings in found if name in metadata.tables}
    assert options == {
        name: {
            "fillfactor=80",
            "autovacuum_vacuum_scale_factor=0.01",
            "autovacuum_vacuum_threshold=500",
            "autovacuum_vacuum_cost_delay=0",
        }
        for name in ("job", "delivery")
    }


@pytest.mark.parametrize("column", ["trace.id", "account_state.pushes", "account_state.polls"])
def test_what_grows_for_ever_has_room_on_postgresql(shared: sa.Engine, column: str) -> None:
    table, _, name = column.partition(".")
    with shared.begin() as tx:
        schema.upgrade(tx)
        found = {one["name"]: one["type"] for one in sa.inspect(tx).get_columns(table)}
    assert isinstance(found[name], sa.BigInteger)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database: str) -> str:
    """A folder of one's own, and a database named by the environment."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", database)
    return database


def test_the_command_says_what_it_did(alone: str) -> None:
    behind = run("migrate", "--check", "--json")
    assert (behind.code, json.loads(behind.out)["revision"]) == (1, None)
    assert "orchestrator migrate" in behind.err
    done = run("migrate")
    assert (done.code, done.err) == (0, "")
    assert [line.rpartition(": ")[2][:4] for line in done.out.splitlines()] == REVISIONS
    assert done.out.splitlines()[0].endswith(": 0001 first schema")
    again = run("migrate")
    assert again.out.endswith(f" is up to date at {NEWEST}\n")
    assert run("migrate", "--check").out == again.out
    document = json.loads(run("migrate", "--json").out)
    assert document == {**document, "revision": NEWEST, "needed": NEWEST, "applied": []}


def test_the_flag_comes_before_the_environment(alone: str) -> None:
    done = run("migrate", "--database-url", "sqlite:///other.db", "--json")
    assert json.loads(done.out)["applied"] == REVISIONS
    assert Path("other.db").exists()
    assert run("migrate", "--check").code == 1


def test_a_check_makes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)
    ran = run("migrate", "--check", "--json")
    assert ran.code == 1
    assert "sqlite:///orchestrator.db is not there yet" in ran.err
    assert json.loads(ran.out) == {
        "database": "sqlite:///orchestrator.db",
        "revision": None,
        "needed": NEWEST,
        "applied": [],
    }
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_use_can_be_checked_but_not_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    isolate(monkeypatch, tmp_path)
    assert run("migrate").code == 0
    lock = sqlite.Lock("sqlite:///orchestrator.db")
    lock.take()
    refused = run("migrate")
    assert refused.code == 1
    assert "stop the other one" in refused.err
    assert run("migrate", "--check").code == 0
    lock.release()
    assert run("migrate").code == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "postgresql://me:s3cret@127.0.0.1:1/jobs",
            "postgresql://me:***@127.0.0.1:1/jobs: connection failed",
        ),
        ("sqlite:///diary.db", "file is not a database"),
        ("sqlite:///nowhere/x.db", "nowhere is not there; make that folder"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--check"]])
def test_a_database_that_cannot_be_had_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, words: str, flags: list[str]
) -> None:
    isolate(monkeypatch, tmp_path)
    Path("diary.db").write_bytes(b"my diary, page one " * 100)
    ran = run("migrate", "--database-url", url, *flags)
    assert ran.code == 1
    assert words in ran.err
    assert "s3cret" not in ran.err
    assert Path("diary.db").read_bytes().startswith(b"my diary")
