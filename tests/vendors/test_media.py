"""Images and clips in an order: only what a vendor can fetch or read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.vendors.order import Input

IMAGE = "https://cdn.example.com/cat.png"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
#: Every field that takes an image or a clip: its pointer, and an input with that value in it.
IMAGES: dict[str, Callable[[str], dict[str, Any]]] = {
    "image_url": lambda value: {"image_url": value},
    "last_image_url": lambda value: {"last_image_url": value},
    "image_urls.1": lambda value: {"image_urls": [IMAGE, value]},
    "static_mask": lambda value: {"static_mask": value},
    "dynamic_masks.0.mask": lambda value: {
        "dynamic_masks": [{"mask": value, "trajectories": [{"x": 1, "y": 2}]}]
    },
}
CLIPS: dict[str, Callable[[str], dict[str, Any]]] = {
    "video_url": lambda value: {"video_url": value},
    "audio_url": lambda value: {"audio_url": value},
    "videos.0.video_url": lambda value: {"videos": [{"video_url": value}]},
}


@pytest.mark.parametrize(
    "value",
    [
        "cat.png",
        "./cat.png",
        "../cat",
        "~/cat.png",
        "/home/me/cat",
        "images/cats1",
        "C:\\cat.png",
        "@cat.png",
        "<image>",
        "file:///home/me/cat.png",
        "data:image/png;base64," + PNG,
        "ftp://cdn.example.com/cat.png",
        "//cdn.example.com/cat.png",
        "cdn.example.com/cat.png",
        "https:cat.png",
        "https:///cat.png",
        "https://cdn.example.com/a cat.png",
        "https://cdn.example.com/cat.png\n",
        "https://[::1",
        "javascript:alert(1)",
    ],
)
def test_what_no_vendor_can_fetch_is_refused_at_its_place(value: str) -> None:
    for place, given in (IMAGES | CLIPS).items():
        with pytest.raises(ValidationError) as refused:
            Input.model_validate(given(value))
        (error,) = refused.value.errors()
        assert ".".join(map(str, error["loc"])) == place
        assert "such as https://" in error["msg"], place


@pytest.mark.parametrize(
    "value", [IMAGE, "HTTP://h/a?b=c%20d#e", "https://u:p@h:8443/\u732b.png", "http://[::1]:1/a"]
)
def test_urls_of_every_form_are_taken(value: str) -> None:
    for made in (IMAGES | CLIPS).values():
        given = made(value)
        assert Input.model_validate(given).given() == given


@pytest.mark.parametrize("value", [PNG, "/9j/4AAQSkZJRg==", "A" * 300, "\n".join((PNG, PNG))])
def test_an_image_may_be_base64_and_a_clip_may_not(value: str) -> None:
    for made in IMAGES.values():
        assert Input.model_validate(made(value)).given() == made(value)
    for made in CLIPS.values():
        with pytest.raises(ValidationError):
            Input.model_validate(made(value))
