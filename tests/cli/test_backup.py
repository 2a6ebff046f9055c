"""`orchestrator backup` and `restore`: whole, private, and without a second render."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.database import schema
from orchestrator.database.sqlite.engine import Lock
from orchestrator.database.store import Store
from orchestrator.foundation.settings import key_file
from tests.harness import databases
from tests.harness.api_caller import until
from tests.harness.command_line import Ran, run
from tests.harness.live import order, restartable

DATABASE, BACKUP = Path("orchestrator.db"), Path("backup.db")
POSTGRES = "postgresql://orchestrator:secret@db.internal/orchestrator"


def made(name: str = "one") -> None:
    """Make a database with one API key, and its key file."""
    databases.url("sqlite", Path.cwd())
    if not DATABASE.exists():
        Path("test.db").rename(DATABASE)
        key_file.read_or_create(key_file.path_for(DATABASE))
    assert run("keys", "create", "--name", name).code == 0


def names(file: Path) -> list[str]:
    with sqlite3.connect(file) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM api_key ORDER BY id")]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files() -> set[str]:
    return {path.name for path in Path().iterdir()}


def refused(ran: Ran, words: str, code: int = 1) -> None:
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err


def test_a_backup_of_a_running_service_has_what_was_committed_and_its_keys() -> None:
    made()
    store = Store(f"sqlite:///{DATABASE}")
    store.start()
    try:
        before = files()
        ran = run("backup", str(BACKUP), "--json")
    finally:
        store.close()
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert document["revision"] == schema.head()
    assert files() - before == {"backup.db", "backup.db.keys"}
    assert names(BACKUP) == ["one"]
    assert [mode(BACKUP), mode(Path(document["keys"]))] == [0o600, 0o600]
    assert Path(document["keys"]).read_text() == key_file.path_for(DATABASE).read_text()


def test_a_backup_replaces_another_only_by_force() -> None:
    made()
    assert run("backup", str(BACKUP)).code == 0
    made("two")
    refused(run("backup", str(BACKUP)), "is there already", 5)
    assert names(BACKUP) == ["one"]
    assert run("backup", str(BACKUP), "--force").code == 0
    assert names(BACKUP) == ["one", "two"]


def test_a_restore_keeps_what_was_there_aside() -> None:
    made()
    run("backup", str(BACKUP))
    made("two")
    # What else belongs to the replaced database: it must not be taken for the backup's.
    Path("orchestrator.db-journal").write_text("of the old one")
    ran = run("restore", str(BACKUP), "--json")
    assert ran.code == 0, ran.err
    assert list(Path().glob("orchestrator.db-*")) == []
    assert names(DATABASE) == ["one"]
    aside = Path(json.loads(ran.out)["before"])
    assert (aside / "orchestrator.db-journal").exists()
    assert names(aside / "orchestrator.db") == ["one", "two"]
    assert [mode(aside), mode(DATABASE)] == [0o700, 0o600]
    assert (aside / "orchestrator.db.keys").exists()
    assert names(BACKUP) == ["one"]
    assert run("migrate", "--check").code == 0


def test_a_restore_to_a_new_machine_brings_the_keys() -> None:
    made()
    run("backup", str(BACKUP))
    for path in list(Path().glob("orchestrator.db*")):
        path.unlink()
    assert run("restore", str(BACKUP)).code == 0
    assert names(DATABASE) == ["one"]
    keys = key_file.path_for(DATABASE)
    assert mode(keys) == 0o600
    assert keys.read_text() == key_file.path_for(BACKUP).read_text()
    assert files() == {
        "orchestrator.db", "orchestrator.db.keys", "orchestrator.db.lock",
        "backup.db", "backup.db.keys",
    }  # fmt: skip


def test_a_restore_that_ends_in_the_middle_loses_nothing_and_is_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made()
    run("backup", str(BACKUP))
    made("two")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _no_space)
        ran = run("restore", str(BACKUP))
    assert (ran.code, "No space left on device" in ran.err) == (1, True)
    (aside,) = Path().glob("orchestrator.db.before-*")
    assert f"the old files are in {aside.absolute()}" in ran.err
    assert names(aside / "orchestrator.db") == ["one", "two"]
    assert not DATABASE.exists()
    assert run("restore", str(BACKUP)).code == 0
    assert names(DATABASE) == ["one"]


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_restore_by_root_leaves_the_files_to_the_user_of_the_service() -> None:
    made()
    run("backup", str(BACKUP))
    for path in Path().glob("orchestrator.db*"):
        os.chown(path, 12345, 12346)
    assert run("restore", str(BACKUP)).code == 0
    for path in (DATABASE, key_file.path_for(DATABASE)):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)
    assert BACKUP.stat().st_uid == 0


def _no_backup() -> None:
    BACKUP.unlink()


def _damaged() -> None:
    content = bytearray(BACKUP.read_bytes())
    content[4096 : 4096 * 3] = b"\xff" * 8192
    BACKUP.write_bytes(content)


def _other() -> None:
    BACKUP.write_text("not a database, but long enough to be one" * 100)


def _newer() -> None:
    with sqlite3.connect(BACKUP) as connection:
        connection.execute("UPDATE schema_version SET version_num = '9999'")


def _foreign() -> None:
    BACKUP.unlink()
    with sqlite3.connect(BACKUP) as connection:
        connection.execute("CREATE TABLE job (id)")


def _without_keys() -> None:
    key_file.path_for(BACKUP).unlink()
    key_file.path_for(DATABASE).unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_no_backup, "is no backup"),
        (_damaged, "malformed|damaged"),
        (_other, "not a database"),
        (_newer, "upgrade orchestrator"),
        (_foreign, "no database of orchestrator"),
        (_without_keys, "callback URLs and stored secrets"),
    ],
)
def test_a_backup_that_cannot_be_used_changes_nothing(
    spoil: Callable[[], None], words: str
) -> None:
    made()
    run("backup", str(BACKUP))
    spoil()
    before, content = files(), DATABASE.read_bytes()
    ran = run("restore", str(BACKUP))
    assert ran.code == (2 if spoil is _no_backup else 1)
    assert re.search(words, ran.err)
    assert DATABASE.read_bytes() == content
    assert files() - before <= {"orchestrator.db.lock"}


def test_a_restore_under_a_running_service_is_refused() -> None:
    made()
    run("backup", str(BACKUP))
    with Lock(f"sqlite:///{DATABASE}"):
        refused(run("restore", str(BACKUP)), "in use by another orchestrator process")


def test_keys_that_do_not_read_the_backup_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made()
    with sqlite3.connect(DATABASE) as connection:
        connection.execute(
            "INSERT INTO subscriber (id, kind, address, shown, secrets, types, description,"
            " options, max_in_flight, state, created_at) VALUES"
            " ('s', 'webhook', 'gAAAA', 'x', '[]', '[]', '', '{}', 8, 'active', 0)"
        )
    connection.close()
    run("backup", str(BACKUP))
    refused(run("restore", str(BACKUP)), "encrypted with other secret_keys")


@pytest.mark.parametrize(
    ("command", "tool"), [("backup", "pg_dump --format=custom"), ("restore", "pg_restore")]
)
def test_postgres_has_its_own_tools_and_no_password_is_shown(command: str, tool: str) -> None:
    ran = run(command, "backup.db", "--database-url", POSTGRES)
    refused(ran, tool)
    assert "secret@" not in ran.err


def test_a_database_that_was_restored_elsewhere_is_treated_in_place(
    database: str, tmp_path: Path
) -> None:
    words = ("restore", "--in-place", "--database-url", database, "--json")
    ran = run(*words)
    assert (ran.code, json.loads(ran.out)["looked_up"]) == (0, 0), ran.err
    store = Store(database)
    store.start()
    try:
        refused(run(*words), "in use by")
    finally:
        store.close()


@pytest.mark.parametrize(
    "words", [(), ("backup.db", "--in-place"), ("--in-place", "--nothing-sent")]
)
def test_a_restore_is_from_a_file_or_in_place(words: tuple[str, ...]) -> None:
    assert run("restore", *words).code == 2


async def test_a_job_that_was_rendered_after_the_backup_is_not_rendered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup has it queued; its vendor has it, and is asked first."""
    async with restartable(tmp_path, {"kling": {}}) as service:
        monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", service.settings.database_url)
        secret = service.settings.secret_keys[0].get_secret_value()
        monkeypatch.setenv("ORCHESTRATOR_SECRET_KEYS", json.dumps([secret]))
        async with service.abandoned() as (_, api):
            job = await api.submit(order("kling"))
            assert run("backup", str(BACKUP)).code == 0
        async with service.started() as it:
            await it.api.ended(job["id"])
            await until(lambda: len(it.world.renders) == 1, "the job is rendered")
        ran = run("restore", str(BACKUP), "--json")
        assert json.loads(ran.out)["looked_up"] == 1, ran.err
        async with service.started() as it:
            ended = await it.api.ended(job["id"])
            assert (ended["status"], ended["resolved_by"]) == ("succeeded", "lookup")
            assert len(it.world.renders) == 1


@pytest.mark.parametrize(
    "name", ["orchestrator.db", "orchestrator.db.keys", "orchestrator.db-wal", "orchestrator"]
)
def test_a_backup_never_replaces_a_file_of_the_database(name: str) -> None:
    made()
    words = ["backup", name, "--force"]
    if name == "orchestrator":
        # Its keys would be the database.
        DATABASE.rename("orchestrator.keys")
        Path("orchestrator.db.keys").rename("orchestrator.keys.keys")
        words += ["--database-url", "sqlite:///orchestrator.keys"]
    before = {path: path.read_bytes() for path in Path().iterdir()}
    refused(run(*words), "belongs to the database", 5)
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_a_restore_leaves_files_alone_that_only_begin_like_the_database() -> None:
    made()
    backup, folder = Path("orchestrator.db-monday"), Path("orchestrator.db-files")
    run("backup", str(backup))
    folder.mkdir()
    ran = run("restore", str(backup))
    assert ran.code == 0, ran.err
    assert names(backup) == ["one"]
    assert folder.is_dir()


def test_a_restore_replaces_the_file_that_a_link_leads_to() -> None:
    made()
    run("backup", str(BACKUP))
    made("two")
    volume = Path("volume")
    volume.mkdir()
    DATABASE.rename(volume / "real.db")
    DATABASE.symlink_to(volume / "real.db")
    (volume / "real.db-journal").write_text("of the old one")
    ran = run("restore", str(BACKUP), "--json")
    assert ran.code == 0, ran.err
    assert DATABASE.is_symlink()
    assert names(volume / "real.db") == ["one"]
    aside = Path(json.loads(ran.out)["before"])
    assert names(aside / "real.db") == ["one", "two"]


def test_a_backup_replaces_no_file_that_is_in_use_as_a_database() -> None:
    """With the log of the replaced one, it would be damaged when it is opened."""
    made()
    run("backup", str(BACKUP))
    with contextlib.closing(sqlite3.connect(BACKUP)) as using:
        using.execute("PRAGMA journal_mode=WAL")
        using.execute("UPDATE api_key SET name = 'of the log'")
        using.commit()
        ran = run("backup", str(BACKUP), "--force")
        assert names(BACKUP) == ["of the log"]
        refused(ran, "in use as a database", 5)
