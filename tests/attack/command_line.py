"""The command line and the Python client: credentials, answers, downloads."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from pathlib import Path

from tests.attack.arena import Arena
from tests.attack.attack import Report, attack
from tests.attack.commands import Ran, python, run
from tests.attack.origin import Answer, Asked, Origin, origin, replies, response
from tests.attack.peers import nested_gzip
from tests.harness.api_caller import KEY

_MB = 1 << 20
#: A key and a secret key that only the server of these settings may see.
_BOOTSTRAP = "orc_" + "b" * 40
_ENVIRONMENT_KEY = "orc_" + "e" * 40
_PAGE = b'{"object":"list","data":[],"has_more":false,"next_cursor":null}'


def _folder(arena: Arena, name: str, toml: str = "") -> Path:
    """Return a new folder, with a settings file."""
    path = arena.folder / name
    path.mkdir()
    if toml:
        (path / "orchestrator.toml").write_text(toml)
        (path / "orchestrator.toml").chmod(0o600)
    return path


def _credentials(there: Origin) -> set[str]:
    """Return the credentials that a server got."""
    return {
        each.headers["authorization"] for each in there.asked if "authorization" in each.headers
    }


@attack("credentials: settings' keys at another server", timeout=180)
async def other_server(arena: Arena, report: Report) -> None:
    """A bootstrap key or an operator pass goes to the server of its settings alone."""
    async with origin(replies(200, _PAGE)) as there:
        for kind, line in (
            ("bootstrap key", f'api_keys = ["{_BOOTSTRAP}"]'),
            ("operator pass", f'secret_keys = ["{"k" * 40}"]'),
        ):
            toml = f'port = {arena.port}\npublic_url = "http://127.0.0.1:{arena.port}"\n{line}\n'
            folder = _folder(arena, kind.replace(" ", "-"), toml)
            for host in ("127.0.0.1", "localhost", "127.0.0.2", "[::ffff:127.0.0.1]"):
                there.asked.clear()
                server = f"http://{host}:{there.port}"
                await run(folder, "--server", server, "jobs", "ls")
                await run(folder, "jobs", "ls", env={"ORCHESTRATOR_SERVER": server})
                report.check(not _credentials(there), f"the {kind} is sent to {host}:other port")


@attack("credentials: the environment's key and a found settings file", timeout=150)
async def planted_settings(arena: Arena, report: Report) -> None:
    """A settings file of the current folder does not redirect the environment's key."""
    async with origin(replies(200, _PAGE)) as there:
        url = f"http://127.0.0.1:{there.port}"
        for number, toml in enumerate(
            (
                f"port = {there.port}\n",
                f'public_url = "{url}"\n',
                f'port = {there.port}\nhost = "127.0.0.1"\npublic_url = "{url}"\n',
            )
        ):
            folder = _folder(arena, f"planted-{number}", toml)
            for words in (("jobs", "ls"), ("submit", "--model", "m", "--prompt", "p"), ("doctor",)):
                there.asked.clear()
                await run(folder, *words, env={"ORCHESTRATOR_API_KEY": _ENVIRONMENT_KEY})
                leaked = any(_ENVIRONMENT_KEY in found for found in _credentials(there))
                report.check(not leaked, f"{words[0]}: sent to the server of file {number}")


@attack("credentials: a redirect to another port")
async def redirected(arena: Arena, report: Report) -> None:
    """A key does not follow."""
    async with origin(replies(200, _PAGE)) as there:
        for status in (301, 302, 307, 308):
            location = f"{there.url}/v1/jobs"
            async with origin(replies(status, b"", location=location)) as first:
                folder = _folder(arena, f"redirect-{status}")
                env = {"ORCHESTRATOR_SERVER": first.url, "ORCHESTRATOR_API_KEY": _ENVIRONMENT_KEY}
                await run(folder, "jobs", "ls", env=env)
                report.check(not _credentials(there), f"{status}: the key follows")


async def _bomb_at(arena: Arena, encoding: str, times: int) -> tuple[Ran, Ran]:
    packed = await asyncio.to_thread(nested_gzip, 512 * _MB, times)
    folder = _folder(arena, f"bomb-{times}")
    script = (
        "import asyncio, sys\n"
        "from orchestrator.client import Client\n"
        "with Client(sys.argv[1], sys.argv[2]) as client:\n"
        "    print(client.jobs.get('job_01kb7x3m5tf6a8r2w9n4c1d0eh'))\n"
    )
    async with origin(replies(200, packed, content_encoding=encoding)) as there:
        env = {"ORCHESTRATOR_SERVER": there.url, "ORCHESTRATOR_API_KEY": KEY}
        line = await run(folder, "jobs", "ls", env=env)
        client = await python(folder, "-c", script, there.url, KEY)
    return line, client


@attack("answers to the command line: nested gzip", timeout=120)
async def nested_at_client(arena: Arena, report: Report) -> None:
    """Neither the command line nor the client unpacks without limit."""
    for encoding, times in (("gzip", 1), ("gzip, gzip", 2), ("gzip, gzip, gzip", 3)):
        for name, ran in zip(
            ("command", "client"), await _bomb_at(arena, encoding, times), strict=True
        ):
            report.at_most(f"{name} MB, {encoding}", ran.peak, 220)
            report.check(ran.code not in (None, 0), f"{name}, {encoding}: exit {ran.code}")
            report.check("MemoryError" not in ran.err, f"{name}, {encoding}: MemoryError")
            if name == "command":
                report.check("Traceback" not in ran.err, f"{name}, {encoding}: a traceback")


@attack("answers to the command line: without end", timeout=120)
async def endless_at_client(arena: Arena, report: Report) -> None:
    """An answer has a size and a deadline."""

    def endless(opening: bytes, piece: bytes) -> Answer:
        async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
            writer.write(opening)
            while not writer.is_closing():
                writer.write(piece)
                await writer.drain()

        return answer

    start = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    for name, answer in (
        ("a body", endless(start + b"\r\n[", b" " * 65_536)),
        ("headers", endless(start, b"x: y\r\n" * 9000)),
    ):
        async with origin(answer) as there:
            env = {"ORCHESTRATOR_SERVER": there.url, "ORCHESTRATOR_API_KEY": KEY}
            ran = await run(_folder(arena, name.replace(" ", "-")), "jobs", "ls", env=env)
        report.at_most(f"{name} MB", ran.peak, 300)
        report.check(ran.code not in (None, 0), f"{name}: exit {ran.code}")
        report.check("Traceback" not in ran.err, f"{name}: a traceback")


async def _succeeding(arena: Arena, url: str) -> None:
    """Let the vendor succeed at once, with this URL as the output."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        job = {"id": "t1", "object": "job", "status": "succeeded",
               "output": {"videos": [{"url": url, "duration": 5}]}}  # fmt: skip
        writer.write(response(200, json.dumps(job).encode()))

    arena.vendor.answer = answer


def _submit(arena: Arena, output: Path) -> tuple[str, ...]:
    return ("--server", arena.url, "--api-key", KEY, "submit", "--model", "m", "--prompt", "p",
            "--output", str(output), "--wait=20")  # fmt: skip


@attack("downloads: an output URL inside", timeout=90)
async def inward_output(arena: Arena, report: Report) -> None:
    """A vendor cannot make `submit --output` fetch from this machine, nor by other spellings."""
    async with origin(replies(200, b"inner secret")) as inside:
        for number, host in enumerate(
            ("127.0.0.1", "localhost", "127.1", "0.0.0.0", "2130706433", "[::ffff:127.0.0.1]")
        ):
            await _succeeding(arena, f"http://{host}:{inside.port}/x.mp4")
            folder = _folder(arena, f"inward-{number}")
            await run(folder, *_submit(arena, folder / "clip.mp4"))
            report.check(not inside.asked, f"{host} is fetched")
            inside.asked.clear()


_ALLOWED = 'allow_private = ["127.0.0.0/8"]\n'


@attack("downloads: a planted link", timeout=60)
async def planted_link(arena: Arena, report: Report) -> None:
    """A link in place of the draft does not overwrite what it points to."""
    async with origin(replies(200, b"a clip", content_type="video/mp4")) as there:
        await _succeeding(arena, f"{there.url}/x.mp4")
        folder = _folder(arena, "link", _ALLOWED)
        victim = arena.folder / "victim"
        victim.write_text("untouched")
        for name in ("clip.mp4.part", ".clip.mp4.part", "clip.part"):
            (folder / name).symlink_to(victim)
        await run(folder, *_submit(arena, folder / "clip.mp4"))
    report.check(victim.read_text() == "untouched", "the target of the link is overwritten")


@attack("downloads: nested gzip", timeout=90)
async def nested_output(arena: Arena, report: Report) -> None:
    """A file is written as it came, or refused."""
    packed = await asyncio.to_thread(nested_gzip, 512 * _MB, 2)
    async with origin(replies(200, packed, content_encoding="gzip, gzip")) as there:
        await _succeeding(arena, f"{there.url}/x.mp4")
        folder = _folder(arena, "nested", _ALLOWED)
        ran = await run(folder, *_submit(arena, folder / "clip.mp4"))
    report.at_most("MB", ran.peak, 250)
    written = sum(path.stat().st_size for path in folder.iterdir())
    report.at_most("MB written", written / _MB, 16)
    report.check("Traceback" not in ran.err, "a traceback")


@attack("submit: a local file as an image")
async def local_image(arena: Arena, report: Report) -> None:
    """A path is refused with its pointer; the vendor does not get it."""
    before = arena.vendor.count("POST")
    for value in ("cat.png", "./cat.png", "/etc/passwd", "file:///etc/passwd", "C:\\cat.png"):
        answer = await arena.api.call(
            "POST", "/v1/jobs",
            {"account": "main", "model": "m", "input": {"prompt": "p", "image_url": value}},
        )  # fmt: skip
        report.check(answer.status_code == 422, f"{value}: {answer.status_code}")
        if answer.status_code == 422:
            pointers = [each["pointer"] for each in answer.json()["errors"]]
            report.check(pointers == ["/input/image_url"], f"{value}: {pointers}")
    env = {"ORCHESTRATOR_SERVER": arena.url, "ORCHESTRATOR_API_KEY": KEY}
    folder = _folder(arena, "image")
    (folder / "cat.png").write_bytes(b"\x89PNG")
    words = ("submit", "--model", "m", "--prompt", "p", "--image", "./cat.png")
    ran = await run(folder, *words, env=env)
    report.check(ran.code not in (0, None), f"--image ./cat.png: exit {ran.code}")
    await asyncio.sleep(0.5)
    report.at_most("sent to the vendor", arena.vendor.count("POST") - before, 0)


@attack("keys: the scope of a new one")
async def default_scope(arena: Arena, report: Report) -> None:
    """Without `--scope` it is `write`, and the command shows it."""
    env = {"ORCHESTRATOR_SERVER": arena.url, "ORCHESTRATOR_API_KEY": KEY}
    ran = await run(_folder(arena, "keys"), "keys", "create", "--name", "n", "--json", env=env)
    scope = json.loads(ran.out)["scope"] if ran.code == 0 else None
    report.check(scope == "write", f"scope {scope}")
    ran = await run(arena.folder / "keys", "keys", "create", "--name", "n", env=env)
    report.check("write" in ran.out + ran.err, "the scope is not shown")


@attack("doctor: settings that others can read")
async def readable_settings(arena: Arena, report: Report) -> None:
    """A file with keys and mode 0644 is a finding."""
    folder = _folder(arena, "readable", f'api_keys = ["{_BOOTSTRAP}"]\nport = {_free()}\n')
    (folder / "orchestrator.toml").chmod(0o644)
    ran = await run(folder, "doctor", "--json")
    named = [line for line in _findings(ran) if "orchestrator.toml" in line and "600" in line]
    report.check(bool(named), "doctor does not name the file and its mode")
    report.check(_BOOTSTRAP not in ran.out + ran.err, "doctor prints the key")


def _findings(ran: Ran) -> list[str]:
    found = json.loads(ran.out)
    rows: list[Mapping[str, object]] = (
        found
        if isinstance(found, list)
        else next(value for value in found.values() if isinstance(value, list))
    )
    return [json.dumps(row) for row in rows]


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
