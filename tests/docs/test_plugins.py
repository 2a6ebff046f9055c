"""The plug-ins on the pages pass the contract suites, and import only the public surface.

This runs what the pages recommend, without placing the files in their folders:
.venv/bin/pytest tests/vendors/test_contract.py tests/vendors/test_field_mapping.py -k acme
.venv/bin/pytest tests/events/test_destinations.py -k mattermost
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.events import destinations
from orchestrator.events.destinations import PublishFailed, Target
from orchestrator.vendors import registry
from tests.api.test_support import calling
from tests.events import test_destinations
from tests.harness import vendor_samples
from tests.harness.documents import blocks, chosen
from tests.harness.vendor_samples import Case
from tests.vendors import test_contract, test_field_mapping

HELD = {
    "orders": [
        test_contract.test_an_order_becomes_the_documented_request,
        test_contract.test_the_capability_is_inferred_from_the_input,
    ],
    "receipts": [test_contract.test_the_answer_to_a_submission_gives_the_task_id],
    "errors": [
        test_contract.test_an_error_answer_to_a_submission_is_classified,
        test_contract.test_only_the_vendors_own_error_means_an_unknown_task,
    ],
}
FORMS = [
    test_field_mapping.test_every_capability_can_be_submitted_and_queried,
    test_field_mapping.test_an_unknown_field_is_refused_with_its_pointer,
    test_field_mapping.test_no_known_field_is_dropped,
]


def named(language: str, how: str) -> dict[str, Any]:
    """Run the only module of its kind and return the names that it defines."""
    [block] = chosen(language, how)
    names: dict[str, Any] = {"__name__": f"docs.{how.split()[-1]}"}
    exec(compile(block.code, str(block), "exec", dont_inherit=True), names)
    return names


def imports(language: str, how: str) -> set[str]:
    """Return the modules of the package that a page's module imports from."""
    [block] = chosen(language, how)
    return {
        node.module or ""
        for node in ast.walk(ast.parse(block.code))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("orchestrator")
    }


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make vendor and samples of the page visible to the suite; return the folder's name."""
    folder = tmp_path / "acme"
    folder.mkdir()
    for block in (block for block in blocks() if block.how.startswith("a sample, ")):
        (folder / block.how.removeprefix("a sample, ")).write_text(block.code)
    kind = named("python", "as a vendor")["Acme"]
    monkeypatch.setattr(vendor_samples, "SAMPLES", tmp_path)
    monkeypatch.setattr(vendor_samples, "VENDORS", {**registry.load(), "acme": kind})
    return "acme"


def test_the_vendor_on_the_page_passes_the_contract_suite_on_every_sample(acme: str) -> None:
    expected = vendor_samples.expectations(acme)
    held = 0
    for section, tests in HELD.items():
        for file, meaning in expected[section].items():
            for test in tests:
                test(Case(acme, file, meaning))
                held += 1
    for file, meaning in expected["reports"].items():
        case = Case(acme, file, meaning)
        test = (
            test_contract.test_a_push_is_read
            if file.startswith("callback_")
            else test_contract.test_the_answer_to_a_status_query_is_read
        )
        test(case)
        held += 1
    test_contract.test_every_sample_is_used(acme)
    test_contract.test_an_unknown_status_word_is_reported_without_a_state(acme)
    assert held == 7


def test_the_plug_ins_on_the_pages_import_only_the_public_surface() -> None:
    assert imports("python", "as a vendor") == {"orchestrator.vendors"}
    assert imports("python", "as a destination") == {
        "orchestrator",
        "orchestrator.events.destinations",
        "orchestrator.events.notification",
    }


def test_every_request_mapping_on_the_page_passes_the_contract_suite(acme: str) -> None:
    capabilities = vendor_samples.vendor(acme).capabilities
    assert capabilities == {"text2video", "image2video"}
    for capability in capabilities:
        for test in FORMS:
            test(acme, capability)


def test_the_destination_on_the_page_passes_the_contract_suite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = named("python", "as a destination")["Mattermost"]()
    monkeypatch.setattr(test_destinations, "KINDS", {**destinations.load(), "mattermost": kind})
    test_destinations.test_the_folder_is_the_registry()
    for data in (test_destinations.JOB, test_destinations.FAILED, *test_destinations.FLAWS):
        test_destinations.test_every_event_becomes_one_post_of_json_to_the_address(
            "mattermost", data
        )
    test_destinations.test_signed_kinds_sign_and_others_do_not("mattermost")
    test_destinations.test_options_accept_their_words_alone("mattermost")
    for text in ("", "@everyone <!here>", "\x00\ud83d", "🐈" * 5000):
        test_destinations.test_no_text_breaks_a_request.hypothesis.inner_test(
            "mattermost", text, text
        )
    for status, verdict in (
        (204, "delivered"),
        (404, "gone"),
        (429, "later"),
        (500, "later"),
        (401, "shortly"),
    ):
        assert kind.classify_response(httpx.Response(status)) == verdict


# -- a broker


async def beanstalkd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve `use` and `put` as beanstalkd does, until the connection ends. A tube is full."""
    tube = "default"
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            verb, *words = (await reader.readuntil(b"\r\n")).decode().split()
            if verb == "use":
                (tube,) = words
                writer.write(f"USING {tube}\r\n".encode())
                continue
            job = (await reader.readexactly(int(words[-1]) + 2)).strip()
            writer.write(b"OUT_OF_MEMORY\r\n" if tube == "full" else b"INSERTED %d\r\n" % len(job))


async def test_the_publisher_on_the_page_publishes_and_reports_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = named("python", "as a publisher")["Beanstalk"]()
    assert imports("python", "as a publisher") == {"orchestrator.events.destinations"}
    monkeypatch.setattr(test_destinations, "KINDS", {**destinations.load(), "beanstalk": kind})
    test_destinations.test_options_accept_their_words_alone("beanstalk")
    message = test_destinations.message()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await beanstalkd(reader, writer)
        writer.close()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host = f"beanstalk://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        renders = Target(f"{host}/renders", options={"priority": "7"})
        sent = kind.encode(renders, message)
        assert (sent.id, sent.to, sent.body) == (message.event_id, "renders", message.body)
        connection = await kind.open(renders, ssl.create_default_context())
        receipts = await asyncio.gather(*(connection.publish(sent) for _ in range(3)))
        assert receipts == [f"INSERTED {len(message.body)}"] * 3
        with pytest.raises(PublishFailed) as caught:
            await connection.publish(kind.encode(Target(f"{host}/full"), message))
        assert (caught.value.code, caught.value.result) == ("out_of_memory", "later")
        await connection.close()
        await ended.wait()


async def test_a_subscriber_of_the_kind_on_the_page_needs_its_address_alone(tmp_path: Path) -> None:
    kind = named("python", "as a publisher")["Beanstalk"]()
    async with calling(tmp_path) as api:
        api.runtime.destinations = {**destinations.load(), kind.kind: kind}
        made = await api.post("/v1/subscribers", 201, {"url": kind.example})
        assert (made["kind"], made["url"]) == (kind.kind, kind.example)
