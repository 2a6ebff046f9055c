"""Migrations on both databases, from nothing and from every earlier schema, whole or not at all."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
REVISIONS = [script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions()][::-1]
NEWEST = REVISIONS[-1]
BEFORE = Path(__file__).parents[1] / "samples" / "before_revisions.sql"
#: A change of the job table that SQLite cannot make in place.
CHANGE = """with op.batch_alter_table("job") as job:
        job.alter_column("api_key", existing_type=sa.String(), nullable=True)
        job.add_column(sa.Column("note", sa.String()))"""


@pytest.fixture(params=databases.KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    address = databases.url(request.param, tmp_path, empty=True)
    yield address
    databases.drop(address)


@pytest.fixture(params=databases.KINDS)
def migrated(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """A writing engine of a database at the newest revision."""
    address = databases.url(request.param, tmp_path)
    opened = engine_of(address)
    yield opened
    opened.dispose()
    # It is not reused for tests that need the declared tables.
    databases._full.discard(address)
    databases.drop(address)


@pytest.fixture
def engine(database: str) -> Iterator[sa.Engine]:
    """A writing engine of an empty database."""
    opened = engine_of(database)
    yield opened
    opened.dispose()


def engine_of(url: str) -> sa.Engine:
    return postgres.engine_of(url, 3) if postgres.is_postgres(url) else sqlite.engines(url)[0]


def upto(revision: str, folder: Path) -> Path:
    """Return a copy of the migrations up to `revision`."""
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
    """Return keys, unique constraints and indexes of each table: ordered columns, conditions."""
    inspector = sa.inspect(tx)
    found: dict[str, object] = {}
    for table in metadata.tables:
        plain = {
            (
                index["name"],
                *index["column_names"],
                index["unique"],
                condition(index.get("dialect_options", {})),
            )
            for index in inspector.get_indexes(table)
            if "duplicates_constraint" not in index
        }
        unique = {tuple(entry["column_names"]) for entry in inspector.get_unique_constraints(table)}
        found[table] = inspector.get_pk_constraint(table)["constrained_columns"], unique, plain
    return found


def condition(options: Any) -> str:
    return "".join(str(value) for name, value in options.items() if name.endswith("_where"))


def row_of(table: sa.Table) -> dict[str, Any]:
    """Return a row with a value in every column."""
    made: dict[type, object] = {str: table.name, int: 7, float: 0.5, bool: True, bytes: b"\x00\xff"}
    return {column.name: made[column.type.python_type] for column in table.columns}


def present(tx: sa.Connection) -> sa.MetaData:
    """Return those of our tables that a schema has; an older one has fewer."""
    found = sa.MetaData()
    found.reflect(tx, only=lambda name, _: name in metadata.tables)
    return found


def rows(tx: sa.Connection, of: sa.MetaData | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return every row of every existing table, with the types of the database."""
    return {
        name: [dict(row._mapping) for row in tx.execute(sa.select(table))]
        for name, table in (of or present(tx)).tables.items()
    }


def fill(tx: sa.Connection, of: sa.MetaData | None = None) -> dict[str, list[dict[str, Any]]]:
    """Replace the rows of every existing table by one, and return them all."""
    found = of or present(tx)
    for table in found.tables.values():
        tx.execute(table.delete())
        tx.execute(table.insert(), row_of(table))
    return rows(tx, found)


def columns(tx: sa.Connection, table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(tx).get_columns(table)}


def test_the_files_of_migrations_are_named_by_their_revisions_in_order() -> None:
    scripts = [*ScriptDirectory(str(FOLDER)).walk_revisions()][::-1]
    assert [script.revision for script in scripts] == REVISIONS
    assert [Path(script.path).name.partition("_")[0] for script in scripts] == REVISIONS
    assert schema.head() == REVISIONS[-1]


def test_the_migrations_make_exactly_the_declared_schema(engine: sa.Engine, tmp_path: Path) -> None:
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
            "also the order of columns and the conditions, which the comparison ignores"
        )


def test_a_second_upgrade_applies_nothing(migrated: sa.Engine) -> None:
    with migrated.begin() as tx:
        kept = fill(tx)
    with migrated.begin() as tx:
        assert schema.upgrade(tx) == []
        assert rows(tx) == kept


def test_every_migration_keeps_the_rows_of_its_predecessor(
    engine: sa.Engine, tmp_path: Path
) -> None:
    """Before each, every column of every table has a value."""
    folder, kept = upto(REVISIONS[0], tmp_path / "migrations"), dict[str, list[dict[str, Any]]]()
    for revision in REVISIONS:
        for file in FOLDER.glob(f"versions/{revision}_*.py"):
            shutil.copy(file, folder / "versions")
        with engine.begin() as tx:
            assert schema.upgrade(tx, folder) == [revision]
            now = rows(tx, found := present(tx))
        for table, (row,) in kept.items():
            (grown,) = now[table]
            assert {name: grown[name] for name in row if name in grown} == row, revision
        with engine.begin() as tx:
            kept = fill(tx, found)


def test_the_next_migration_is_written_from_the_template(
    migrated: sa.Engine, tmp_path: Path
) -> None:
    """Also where SQLite copies the table: rows, unique columns and index conditions are kept."""
    folder = upto(NEWEST, tmp_path / "100% migrations")
    revision = following(folder)
    with migrated.begin() as tx:
        kept, before = fill(tx)["job"], indexes(tx)
    with migrated.begin() as tx:
        assert schema.upgrade(tx, folder) == [revision]
        assert schema.title(revision, folder) == f"{revision} one more"
        assert rows(tx)["job"] == [{**kept[0], "note": None}]
        assert indexes(tx) == before


def test_a_migration_that_fails_changes_nothing(migrated: sa.Engine, tmp_path: Path) -> None:
    folder = upto(NEWEST, tmp_path / "migrations")
    following(folder, CHANGE + '\n    raise RuntimeError("half-way")')
    with migrated.begin() as tx:
        kept = fill(tx)
    with pytest.raises(RuntimeError, match="half-way"), migrated.begin() as tx:
        schema.upgrade(tx, folder)
    with migrated.begin() as tx:
        schema.check(tx)
        assert rows(tx) == kept
        assert "note" not in columns(tx, "job")


def test_the_template_cannot_be_left_empty(migrated: sa.Engine, tmp_path: Path) -> None:
    folder = upto(NEWEST, tmp_path / "migrations")
    following(folder, "")
    with pytest.raises(NotImplementedError), migrated.begin() as tx:
        schema.upgrade(tx, folder)


@pytest.mark.parametrize(
    "file", sorted(FOLDER.glob("versions/[0-9]*.py")), ids=lambda file: file.stem
)
def test_migrations_go_forward_only(file: Path) -> None:
    assert "def upgrade()" in file.read_text()
    assert "def downgrade" not in file.read_text()


def test_an_old_database_and_an_empty_one_have_different_messages(
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


def test_a_newer_database_is_unchanged(migrated: sa.Engine) -> None:
    with migrated.begin() as tx:
        tx.exec_driver_sql("UPDATE schema_version SET version_num = '9999'")
    for use in (schema.check, schema.upgrade):
        with (
            migrated.begin() as tx,
            pytest.raises(ConfigError, match=r"schema 9999, which a newer .* upgrade orch"),
        ):
            use(tx)


def test_tables_of_another_application_are_unchanged(engine: sa.Engine) -> None:
    with engine.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE event (id VARCHAR)")
        tx.exec_driver_sql("CREATE TABLE theirs (id VARCHAR)")
    for use in (schema.check, schema.upgrade):
        with (
            engine.begin() as tx,
            pytest.raises(ConfigError, match=r"has tables \(event\) and no schema_version"),
        ):
            use(tx)
    with engine.begin() as tx:
        assert set(sa.inspect(tx).get_table_names()) == {"event", "theirs"}


def test_tables_of_other_names_do_not_matter(engine: sa.Engine) -> None:
    with engine.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE theirs (id VARCHAR)")
        assert schema.upgrade(tx) == REVISIONS


def test_a_password_is_not_shown() -> None:
    url = postgres.url_of("postgres://me:s3cret@db.example.com/jobs?password=s3cret")
    assert schema.named(url) == "postgresql://me:***@db.example.com/jobs"


@pytest.fixture
def first(tmp_path: Path) -> Iterator[sa.Engine]:
    """A SQLite database as made before there were revisions."""
    opened = engine_of(databases.url("sqlite", tmp_path, empty=True))
    with opened.begin() as tx:
        for statement in BEFORE.read_text(encoding="utf-8").split(";\n"):
            tx.exec_driver_sql(statement)
    yield opened
    opened.dispose()


def test_a_database_from_before_revisions_is_adopted(first: sa.Engine) -> None:
    with first.begin() as tx:
        kept = fill(tx)
        with pytest.raises(
            ConfigError, match=r"before schemas had numbers; run `orchestrator migrate`"
        ):
            schema.check(tx)
        assert not sa.inspect(tx).has_table("schema_version"), "a check changes nothing"
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
def test_one_with_other_tables_is_refused_with_their_names(
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


@pytest.fixture
def declared(tmp_path: Path) -> Iterator[sa.Engine]:
    """A PostgreSQL database at the newest revision, to be read."""
    address = databases.url("postgresql", tmp_path)
    opened = engine_of(address)
    yield opened
    opened.dispose()
    databases.drop(address)


def test_replicas_that_start_at_once_migrate_once(shared: sa.Engine) -> None:
    def second() -> list[str]:
        with shared.begin() as tx:
            # The session now knows that there are no tables, as in `prepare`.
            assert schema.check(tx, allow_empty=True) is None
            return schema.upgrade(tx)

    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with (
        ThreadPoolExecutor(1) as executor,
        shared.connect().execution_options(isolation_level="AUTOCOMMIT") as other,
    ):
        with shared.begin() as tx:
            assert schema.upgrade(tx) == REVISIONS
            late = executor.submit(second)
            until = time.monotonic() + 30
            while not other.scalar(waiting):
                assert time.monotonic() < until
        assert late.result(30) == []


def test_a_replica_starts_while_another_commits_the_first_tables(
    shared: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = schema.current

    def read_and_be_overtaken(tx: sa.Connection) -> str | None:
        found = read(tx)
        monkeypatch.undo()
        with shared.begin() as other:
            schema.upgrade(other)
        return found

    monkeypatch.setattr(schema, "current", read_and_be_overtaken)
    with shared.begin() as tx:
        schema.prepare(tx)
    with shared.begin() as tx:
        assert schema.current(tx) == NEWEST


def test_tables_that_change_often_have_storage_parameters_on_postgresql(
    declared: sa.Engine,
) -> None:
    with declared.begin() as tx:
        found = tx.execute(
            sa.text(
                "SELECT relname, reloptions FROM pg_class"
                " WHERE reloptions IS NOT NULL AND relkind = 'r'"
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
def test_counters_are_bigint_on_postgresql(declared: sa.Engine, column: str) -> None:
    table, _, name = column.partition(".")
    with declared.begin() as tx:
        found = {found["name"]: found["type"] for found in sa.inspect(tx).get_columns(table)}
    assert isinstance(found[name], sa.BigInteger)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database: str) -> str:
    """An empty folder, and a database named by the environment."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", database)
    return database


def test_the_command_prints_the_applied_revisions(alone: str) -> None:
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


def test_the_flag_takes_precedence_over_the_environment(alone: str) -> None:
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
def test_an_unusable_database_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, words: str, flags: list[str]
) -> None:
    isolate(monkeypatch, tmp_path)
    Path("diary.db").write_bytes(b"my diary, page one " * 100)
    ran = run("migrate", "--database-url", url, *flags)
    assert ran.code == 1
    assert words in ran.err
    assert "s3cret" not in ran.err
    assert Path("diary.db").read_bytes().startswith(b"my diary")
