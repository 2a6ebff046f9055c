"""Large images are taken out of a body, and put back byte for byte; nothing else is."""

from __future__ import annotations

import base64
import hashlib
import json
import tracemalloc
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.vendors.large_images import are_in, put_back, take_out
from orchestrator.vendors.order import Input

IMAGE = base64.b64encode(bytes(range(256)) * 64).decode()
LINES = "\r\n".join(IMAGE[start : start + 76] for start in range(0, len(IMAGE), 76))


def reference(text: str) -> str:
    return f"base64;sha256={hashlib.sha256(text.encode()).hexdigest()};length={len(text)}"


@pytest.mark.parametrize(
    "value",
    [
        {"image_url": IMAGE, "image_urls": [IMAGE, LINES]},
        [[IMAGE], {"a": {"b": IMAGE}}, "", IMAGE[:99]],
        {IMAGE: IMAGE},
        {"prompt": "a \\" + '"', "image_url": IMAGE},
        {"prompt": "ends with \\", "image_url": IMAGE},
        {"numbers": [12345] * 9999, "image_url": IMAGE, "more": [12345] * 9999},
        {"image_url": "data:image/png;base64," + IMAGE},
        IMAGE,
    ],
)
@pytest.mark.parametrize("spaces", [None, 1])
def test_each_image_is_replaced_by_its_reference_and_put_back(value: Any, spaces: Any) -> None:
    body = json.dumps(value, indent=spaces).encode()
    text, images = take_out(body)
    assert images
    assert are_in(text)
    replaced = json.dumps(value)
    for large in ("data:image/png;base64," + IMAGE, IMAGE, LINES):
        replaced = replaced.replace(json.dumps(large), f'"{reference(large)}"')
    assert json.loads(text) == json.loads(replaced)
    assert put_back(text, images) == body


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": "a boat " * 9999},
        {"numbers": [12345678] * 9999, "prompt": "a boat"},
        {"prompt": '"' + IMAGE},
        {"prompt": IMAGE + '"'},
        {"prompt": "\\n" + IMAGE},
        {"image_url": IMAGE[:9999]},
    ],
)
def test_what_is_no_image_stays(value: Any) -> None:
    body = json.dumps(value).encode()
    assert take_out(body) == (body, {})


def test_text_that_is_not_json_stays_invalid() -> None:
    for image in (IMAGE + "\n", IMAGE + "\\x"):
        body = b'{"image_url": "%b"}' % image.encode()
        text, images = take_out(body)
        with pytest.raises(json.JSONDecodeError):
            json.loads(put_back(text, images))


@pytest.mark.parametrize(
    ("image", "is_image"),
    [
        (IMAGE, True),
        (LINES, True),
        (IMAGE.replace("/", r"\/"), True),
        (IMAGE.replace("+", r"\u002B").replace("=", r"\u003d"), True),
        (IMAGE[:-1], False),
        ("=" + IMAGE[1:], False),
        (IMAGE[:20] + "=" + IMAGE[21:], False),
        (IMAGE.replace("/", "_"), False),
        ("data:image/png;base64," + IMAGE, False),
    ],
)
def test_a_large_image_is_base64(image: str, is_image: bool) -> None:
    written = image if "\\" in image else json.dumps(image)[1:-1]
    text, images = take_out(b'{"image_url": "%b"}' % written.encode())
    [known] = images
    try:
        taken = Input.model_validate(json.loads(text), context=images)
    except ValidationError:
        assert not is_image
    else:
        assert is_image
        assert taken.image_url == known == reference(json.loads(f'"{written}"'))


def test_a_reference_that_a_caller_sends_is_refused() -> None:
    with pytest.raises(ValidationError):
        Input.model_validate({"image_url": reference(IMAGE)})


def test_an_image_of_short_lines_costs_a_few_times_its_size() -> None:
    body = b'{"image_url": "%b"}' % (b"AB\\n" * (1 << 20))
    tracemalloc.start()
    try:
        text, images = take_out(body)
        Input.model_validate(json.loads(text), context=images)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * len(body)
