"""Reading reports: every documented shape and status word, and hostile values."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.foundation.errors import Unreadable
from orchestrator.foundation.json_codec import parse
from orchestrator.foundation.states import JobState
from orchestrator.foundation.untrusted import (
    code,
    instant,
    name,
    number,
    percent,
    seconds,
    text,
    url,
)
from orchestrator.vendors.reader import Reader
from orchestrator.vendors.report import WORDS, Report, Words
from tests.harness.vendor_samples import FOLDERS, SAMPLES, vendor

MAP = json.loads((SAMPLES / "status_map.json").read_bytes())


def read(body: Any, words: Words = WORDS) -> list[Report]:
    return Reader(words, "https://gateway.example/api").reports(body)


def read_one(body: Any) -> Report:
    (report,) = read(body, WORDS)
    return report


@pytest.mark.parametrize("state", ["submitted", "processing", "succeeded", "failed"])
def test_every_status_word_seen_at_a_gateway_is_known(state: str) -> None:
    assert {word: WORDS.get(word) for word in MAP[state]} == dict.fromkeys(
        MAP[state], JobState(state)
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_documented_status_word_has_its_documented_state(folder: str) -> None:
    words, documented = vendor(folder).words, MAP["documented"][folder]
    assert {word: str(words[word.lower()]) for word in documented} == documented


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"NaN", b'{"a": Infinity}', b"[" * 100_000, b"1" * 5000, b"\x00"],
    ids=["empty", "open", "not utf-8", "nan", "infinity", "deep", "long number", "nul"],
)
def test_invalid_json_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        parse(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ('{"a": "ü"}'.encode("utf-16"), {"a": "ü"}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (rb'{"a": "\ud800"}', {"a": "\ud800"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": 123456789012345678901234567891}', {"a": 123456789012345678901234567891}),
    ],
    ids=["utf-16", "byte order mark", "half a character", "twice", "a long number"],
)
def test_unusual_json_is_read(body: bytes, value: Any) -> None:
    assert parse(body) == value


@pytest.mark.parametrize("number", ["1" * 19, "1" * 21, "9" * 40, "-1e400", "1e400"])
def test_a_number_out_of_range_is_left_out(number: str) -> None:
    (report,) = read(
        parse(f'{{"task_status": "done", "task_id": -1, "updated_at": {number}}}'.encode()), WORDS
    )
    assert report.updated_at is None


@pytest.mark.parametrize(
    "body",
    [
        None,
        5,
        "x",
        {},
        {"status": "done"},
        {"status": "error", "message": "unauthorized"},
        [5],
        [{}],
        {"code": 0, "data": None},
        {"code": 0, "data": "x"},
    ],
)
def test_a_body_without_a_task_is_unreadable(body: Any) -> None:
    with pytest.raises(Unreadable):
        read(body, WORDS)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("body", [b"[]", b'{"code": 0, "data": []}'])
def test_a_push_about_no_task_is_unreadable(folder: str, body: bytes) -> None:
    with pytest.raises(Unreadable):
        vendor(folder).read_push(body)


TASK = {"id": "1", "status": "completed", "video_url": "https://x.example/v.mp4"}


@pytest.mark.parametrize(
    "body",
    [
        TASK,
        [TASK],
        {"code": 0, "message": "ok", "data": TASK},
        {"code": "OK", "data": [TASK]},
        {"success": True, "data": TASK},
        {"status": 200, "msg": "ok", "data": TASK},
        {"status": "success", "message": "", "data": TASK},
        {"code": 0, "request_id": "9", "data": {"task": TASK}},
        {"id": "9", "code": 0, "data": TASK},
        {"result": TASK},
        {"output": TASK, "request_id": "9"},
        {"tasks": [TASK]},
        {"code": 0, "data": {"total": 1, "items": [TASK]}},
        {"code": 0, "data": json.dumps(TASK)},
        {"event": "completed", "payload": TASK},
        {"id": "9", "code": 0, "data": [TASK]},
        {"id": "9", "object": "event", "type": "video.completed", "data": TASK},
        {**TASK, "code": 0, "data": None},
    ],
)
def test_a_task_is_found_in_any_envelope(body: Any) -> None:
    assert read_one(body) == read_one(TASK)


def test_an_odd_entry_of_a_batch_hides_no_other() -> None:
    odd = {"id": "2", "status": ""}
    assert [report.state for report in read({"data": [None, odd, TASK]})] == [
        None,
        JobState.SUCCEEDED,
    ]
    for body in ([None], [None, None], [odd], [{}, TASK]):
        with pytest.raises(Unreadable):
            read({"data": body})


@pytest.mark.parametrize("place", ["output", "data"])
@pytest.mark.parametrize("wrap", [lambda file: file, lambda file: [file]])
def test_a_file_with_an_id_is_no_task(place: str, wrap: Any) -> None:
    report = read_one({"status": "completed", place: wrap({"id": "f1", "url": ADDRESS})})
    assert (report.state, report.vendor_task_id) == (JobState.SUCCEEDED, None)
    assert [video.url for video in report.videos] == [ADDRESS]


def test_what_stands_beside_a_task_is_read() -> None:
    task = {"task_id": "1", "task_status": "SUCCEEDED"}
    report = read_one(
        {"output": task, "usage": {"duration": 5}, "videos": [{"video_url": ADDRESS}]}
    )
    assert report.billing == {"usage": {"duration": 5}}
    assert [video.url for video in report.videos] == [ADDRESS]


def test_the_words_of_a_failure_are_found_within_what_a_gateway_passes_on() -> None:
    inner = {"code": 0, "message": "ok", "data": {"task_status_msg": "risk control"}}
    record = {"task_id": "1", "status": "FAILURE", "fail_reason": "", "data": inner}
    assert read_one(record).message == "risk control"
    assert read_one({**record, "data": {"message": "success"}}).message is None


def test_envelopes_are_opened_only_so_deep() -> None:
    body: dict[str, Any] = TASK
    for _ in range(2000):
        body = {"code": 0, "data": body}
    with pytest.raises(Unreadable):
        read_one(body)


@pytest.mark.parametrize(
    "zero", [0, "0", -1, "", "null", "None", "00000000-0000-0000-0000-000000000000"]
)
def test_the_zero_of_an_id_is_no_id(zero: Any) -> None:
    reader = Reader(WORDS)
    assert reader.accepted({"code": 1, "msg": "no", "data": {"task_id": zero}}) is None
    assert reader.accepted({"code": 0, "task_id": zero, "id": "T1"}) == ("T1", None)


@pytest.mark.parametrize("ids", [["T1"], {"task_ids": ["T1"]}, {"taskID": "T1"}, '{"id": "T1"}'])
def test_the_only_id_of_an_acceptance_counts_in_any_place(ids: Any) -> None:
    assert Reader(WORDS).accepted({"code": 0, "data": ids}) == ("T1", None)


@pytest.mark.parametrize(
    "no", [{"code": 500}, {"code": -1}, {"code": 1201}, {"success": False}, {"error": "no"}]
)
def test_a_word_beside_an_error_is_no_id(no: Any) -> None:
    assert Reader(WORDS).accepted({"msg": "no", "data": "E1001", **no}) is None
    assert Reader(WORDS).accepted({"msg": "ok", "code": 0, "data": "E1001"}) == ("E1001", None)


ADDRESS = "https://cdn.example/a.mp4"


@pytest.mark.parametrize(
    "holder",
    [
        {"url": ADDRESS},
        {"video_url": f" {ADDRESS}\n"},
        {"result_url": ADDRESS},
        {"output_video_url": ADDRESS},
        {"video_urls": [ADDRESS]},
        {"metadata": {"url": ADDRESS}},
        {"result": {"video_url": ADDRESS, "outputs": [ADDRESS]}},
        {"result": ADDRESS},
        {"output": ADDRESS},
        {"output": [ADDRESS]},
        {"output": {"video": ADDRESS}},
        {"output": {"video": {"url": ADDRESS}}},
        {"output": {"works": [{"video": {"resource_without_watermark": ADDRESS}}]}},
        {"works": [{"url": ADDRESS, "cover_url": "https://cdn.example/a.png"}]},
        {"data": {"videos": [ADDRESS]}},
        {"data": {"code": 0, "data": {"task_result": {"videos": [{"url": ADDRESS}]}}}},
        {"content": {"video_url": ADDRESS, "last_frame_url": "https://cdn.example/a.png"}},
        {"creations": [{"url": ADDRESS, "cover_url": "https://cdn.example/a.png"}]},
        {"outputs": [{"type": "video", "url": ADDRESS}]},
        {"outputs": [{"type": "cover", "url": "https://cdn.example/c"}, ADDRESS]},
        {"outputs": [{"type": "image/png", "url": "https://cdn.example/c"}, ADDRESS]},
        {"results": [{"url": ADDRESS}]},
        {"assets": {"video": ADDRESS, "image": "https://cdn.example/a.png"}},
        {"resultJson": json.dumps({"resultUrls": [ADDRESS]})},
        {"output": json.dumps([ADDRESS])},
        {"videoInfo": {"videoUrl": ADDRESS, "imageUrl": "https://cdn.example/a.png"}},
        {"output_urls": [ADDRESS], "originUrls": ["https://cdn.example/o.mp4"]},
        {"video_url": [ADDRESS]},
        {"video_url": {"url": ADDRESS}},
        {"outputs": {"video_url": ADDRESS}},
        {"task_result": [{"url": ADDRESS}]},
        {"task_result": {"videos": {"url": ADDRESS}}},
        {"generated": [ADDRESS]},
        {"data": ADDRESS},
        {"video": {"uri": ADDRESS}},
        {"resource_url": ADDRESS},
        {"video_url_without_watermark": "x", "url_without_watermark": ADDRESS},
    ],
)
def test_the_address_of_a_clip_is_found_wherever_it_stands(holder: Any) -> None:
    report = read_one({"id": "1", "status": "completed", **holder})
    assert [video.url for video in report.videos] == [ADDRESS]


@pytest.mark.parametrize(
    "holder",
    [
        {"metadata": {"url": "see the console"}},
        {"metadata": {"url": "javascript:alert(1)"}},
        {"input": {"video_url": ADDRESS}},
        {"thumbnail_url": ADDRESS},
        {"source_urls": [ADDRESS]},
        {"callback_url": ADDRESS},
        {"polling_url": "/v1/videos/1"},
        {"support_url": ADDRESS},
        {"self_url": ADDRESS},
        {"images": [ADDRESS]},
        {"files": [{"type": "input", "url": ADDRESS}]},
        {"url": "https://[x"},
        {"url": "/"},
        {"url": "a/b.mp4"},
        {"outputs": [[ADDRESS]]},
    ],
)
def test_what_is_no_result_is_no_output(holder: Any) -> None:
    assert not read_one({"id": "1", "status": "completed", **holder}).has_output


def test_a_relative_address_is_one_of_the_vendor_and_needs_the_key() -> None:
    for path in ("/v1/videos/1/content", "/api/v1/videos/1/content"):
        (video,) = read_one({"id": "1", "status": "completed", "url": path}).videos
        address = "https://gateway.example/api/v1/videos/1/content"
        assert (video.url, video.needs_key) == (address, True)
    other = read_one({"id": "1", "status": "completed", "url": "//cdn.example/a.mp4"})
    assert [(video.url, video.needs_key) for video in other.videos] == [(ADDRESS, False)]


def test_watermarked_copies_and_sound_are_read() -> None:
    clip = {"url": ADDRESS, "watermark_url": f"{ADDRESS}?wm", "duration": "5"}
    output = {"videos": [clip], "audio_url": "https://cdn.example/a.mp3"}
    report = read_one({"id": "1", "status": "completed", "output": output})
    assert (report.videos[0].watermark_url, report.videos[0].duration) == (f"{ADDRESS}?wm", 5.0)
    assert [audio.url for audio in report.audios] == ["https://cdn.example/a.mp3"]
    work = {"url": ADDRESS, "watermarked_url": f"{ADDRESS}?wm"}
    sound = {"audio_id": "1", "url_mp3": "https://cdn.example/a.mp3"}
    other = read_one({"id": "1", "state": "success", "creations": [work], "audios": [sound]})
    assert other.videos[0].watermark_url == f"{ADDRESS}?wm"
    assert other.audios[0].url == "https://cdn.example/a.mp3"


@pytest.mark.parametrize(
    ("item", "expires_at"),
    [
        ({"url": f"{ADDRESS}?ksTime=6a6ef86e"}, "2026-08-02T07:57:34"),
        (
            {"url": f"{ADDRESS}?X-Amz-Date=20260802T000000Z&X-Amz-Expires=3600"},
            "2026-08-02T01:00:00",
        ),
        ({"url": f"{ADDRESS}?Expires=1785657454"}, "2026-08-02T07:57:34"),
        ({"url": f"{ADDRESS}?Expires=3600"}, None),
        ({"url": f"{ADDRESS}?X-Amz-Date=99991231T235959Z&X-Amz-Expires=9e9"}, None),
        ({"url": f"{ADDRESS}?ksTime=6A6EF86E"}, "2026-08-02T07:57:34"),
        ({"url": f"{ADDRESS}?x-expires=1785657454"}, "2026-08-02T07:57:34"),
        ({"url": f"{ADDRESS}?se=2026-08-02T07%3A57%3A34Z&sig=a"}, "2026-08-02T07:57:34"),
        ({"url": ADDRESS, "expires_at": 1785657454}, "2026-08-02T07:57:34"),
        (
            {"output": {"videos": [{"url": ADDRESS}]}, "expires_at": 1785657454},
            "2026-08-02T07:57:34",
        ),
        (
            {"outputs": [{"url": ADDRESS, "expire_at": "2026-08-02T07:57:34Z"}]},
            "2026-08-02T07:57:34",
        ),
    ],
)
def test_the_end_of_an_address_is_read_in_any_shape(item: Any, expires_at: str | None) -> None:
    (video,) = read_one({"id": "1", "status": "completed", **item}).videos
    end = video.expires_at
    assert (end and end.replace(tzinfo=None).isoformat()) == expires_at


@pytest.mark.parametrize(
    ("item", "charged"),
    [
        ({"billing": [{"amount": "1.5"}]}, [{"amount": "1.5"}]),
        ({"final_unit_deduction": "0.4"}, {"final_unit_deduction": "0.4"}),
        ({"usage": {"cost": 0.2}, "billing": []}, {"usage": {"cost": 0.2}}),
        ({"meta": {"usage": {"consume": 260}}}, {"usage": {"consume": 260}}),
        ({"billing": "x" * 5000}, None),
        ({"billing": json.loads("[" * 900 + "1" + "]" * 900)}, None),
        ({"usage": None}, None),
    ],
)
def test_charges_are_kept_as_the_vendor_states_them(item: Any, charged: Any) -> None:
    assert read_one({"id": "1", "status": "completed", **item}).billing == charged


def test_a_wide_and_deep_charge_costs_no_memory() -> None:
    wide = ('{"%s":' % ("~" * 64)) * 300 + "[" + "0," * 50_000 + "0]" + "}" * 300
    item = {"id": "1", "status": "completed", "billing": json.loads(wide)}
    tracemalloc.start()
    try:
        assert read_one(item).billing is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("word", "state"),
    [
        (" SUCCEEDED ", JobState.SUCCEEDED),
        ("FAIL", JobState.FAILED),
        ("In Progress", JobState.PROCESSING),
        ("in-progress", JobState.PROCESSING),
        ("TASK_STATUS_SUCCEED", JobState.SUCCEEDED),
        ("video_generation_failed", JobState.FAILED),
        ("已完成", JobState.SUCCEEDED),
        ("unknown", None),
        ("UNKNOWN", None),
        ("status", None),
        ("task_unknown", None),
    ],
)
def test_status_words_are_known_in_any_case_and_with_blanks(
    word: str, state: JobState | None
) -> None:
    report = read_one({"id": "1", "status": word})
    assert (report.state, report.word) == (state, word.strip())


def test_an_external_id_is_found_in_either_kind_of_push() -> None:
    legacy = {"task_id": "1", "task_status": "submitted"}
    assert read_one({**legacy, "task_info": {"external_task_id": "a"}}).external_task_id == "a"
    assert read_one({**legacy, "external_task_id": "a"}).external_task_id == "a"
    new = {"id": "1", "status": "submitted", "create_time": 1, "external_id": "a"}
    assert read_one(new).external_task_id == "a"


def test_old_records_hold_the_url_of_a_success_in_fail_reason() -> None:
    record = {"task_id": "1", "status": "SUCCESS", "fail_reason": "https://x.example/v.mp4"}
    assert [video.url for video in read_one(record).videos] == ["https://x.example/v.mp4"]
    assert read_one({**record, "status": "FAILURE", "fail_reason": "no"}).message == "no"


def test_images_and_videos_are_separated() -> None:
    kinds = ("image", "video", "audio")
    outputs = [{"type": kind, "url": f"https://x.example/{kind}"} for kind in kinds]
    report = read_one({"id": "1", "status": "succeeded", "outputs": outputs})
    assert [output.url for output in report.images] == ["https://x.example/image"]
    assert [output.url for output in report.videos] == ["https://x.example/video"]


@pytest.mark.parametrize("made", [None, "x", 5, {}, [None], [5], ["x"], [{"url": "ftp://x"}], [{}]])
def test_a_success_without_a_usable_url_has_no_output(made: Any) -> None:
    report = read_one({"task_id": "1", "task_status": "succeed", "task_result": {"videos": made}})
    assert report.state is JobState.SUCCEEDED
    assert not report.has_output


def test_the_hexadecimal_time_in_a_url_is_its_expiry() -> None:
    address = "https://v.example/a.mp4?ksSecret=1&ksTime=6a6ef86e"
    report = read_one(
        {"task_id": "1", "task_status": "succeed", "task_result": {"videos": [{"url": address}]}}
    )
    assert report.videos[0].expires_at == datetime(2026, 8, 2, 7, 57, 34, tzinfo=UTC)


@pytest.mark.parametrize(
    ("reader", "value", "meaning"),
    [
        (seconds, "5.041", 5.041),
        (seconds, 5, 5.0),
        (seconds, -1, None),
        (seconds, True, None),
        (seconds, "nan", None),
        (seconds, "9" * 40, None),
        (percent, "30%", 30),
        (percent, 100, 100),
        (percent, 0.42, 42),
        (percent, "0.42", 42),
        (percent, 1.0, 100),
        (percent, 1, 1),
        (percent, "0.5%", 0),
        (percent, 101, None),
        (percent, [], None),
        (number, "1e400", None),
        (instant, 0, None),
        (instant, 1770000000, datetime(2026, 2, 2, 2, 40, tzinfo=UTC)),
        (instant, 1770000000123, datetime(2026, 2, 2, 2, 40, 0, 123000, tzinfo=UTC)),
        (instant, "1770000000", datetime(2026, 2, 2, 2, 40, tzinfo=UTC)),
        (instant, 1e15, None),
        (name, 9019300046, "9019300046"),
        (name, True, None),
        (name, 1 << 70, str(1 << 70)),
        (name, 1 << 2000, None),
        (name, 1e20, None),
        (name, "", None),
        (name, "a\0b", None),
        (name, "x" * 1024, "x" * 1024),
        (name, "x" * 1025, None),
        (text, "\ud800", "?"),
        (text, "x" * 3000, "x" * 2000),
        (code, "1301", 1301),
        (code, "task_failed", "task_failed"),
        (code, True, None),
        (code, "²", "²"),
        (url, "javascript:alert(1)", None),
        (url, "https://" + "x" * 9000, None),
        (url, "https://x.example", "https://x.example"),
        (url, " HTTPS://x.example\n", "HTTPS://x.example"),
    ],
)
def test_values_are_read_or_left_out(reader: Any, value: Any, meaning: Any) -> None:
    assert reader(value) == meaning


SIMPLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES: st.SearchStrategy[object] = SIMPLE | st.lists(st.integers()) | st.just({})


@given(value=VALUES)
def test_no_value_breaks_a_reader(value: Any) -> None:
    for reader in (seconds, percent, number, instant, name, text, code, url):
        result = reader(value)
        assert result is None or "\0" not in str(result)
