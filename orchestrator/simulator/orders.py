"""One submit body for everything every simulated account can do: what the demo submits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from orchestrator.simulator.shapes import JsonObject

PROMPT: Final = "A golden retriever running on a sunny beach, cinematic lighting, slow motion"
FIRST: Final = "https://example.com/first-frame.png"
LAST: Final = "https://example.com/last-frame.png"
MASK: Final = "https://example.com/mask.png"
CLIP: Final = "https://example.com/clip.mp4"
TEXT: Final[JsonObject] = {"prompt": PROMPT, "duration": 5, "aspect_ratio": "16:9"}
IMAGE: Final[JsonObject] = {"prompt": PROMPT, "image_url": FIRST, "duration": 5}
FRAMES: Final[JsonObject] = {**IMAGE, "last_image_url": LAST}
CAMERA: Final[JsonObject] = {"type": "simple", "config": {"zoom": 5}}
MASKS: Final[JsonObject] = {
    "static_mask": MASK,
    "dynamic_masks": [{"mask": MASK, "trajectories": [{"x": 100, "y": 200}, {"x": 180, "y": 240}]}],
}
MOTION: Final[JsonObject] = {"prompt": PROMPT, "image_url": FIRST, "video_url": CLIP}
MULTI: Final[JsonObject] = {
    "prompt": PROMPT,
    "image_urls": [FIRST, LAST],
    "duration": 5,
    "aspect_ratio": "16:9",
}
SHOTS: Final[JsonObject] = {
    "shots": [
        {"prompt": "Wide shot of the city at dusk", "duration": 2},
        {"prompt": "Camera pushes toward the balcony", "duration": 3},
    ],
    "shot_type": "customize",
    "duration": 5,
    "aspect_ratio": "16:9",
}
OMNI: Final[JsonObject] = {
    "prompt": "Based on <<<video_1>>>, generate the next shot.",
    "videos": [{"video_url": CLIP, "refer_type": "feature", "keep_original_sound": True}],
    "aspect_ratio": "16:9",
    "mode": "pro",
}
REFINED: Final[JsonObject] = {
    "negative_prompt": "blurry, low quality",
    "cfg_scale": 0.5,
    "mode": "std",
}

Wanted = tuple[str, str, JsonObject]
LEGACY: Final[tuple[Wanted, ...]] = (
    (
        "text to video",
        "text2video",
        {**TEXT, "mode": "pro", "negative_prompt": "blur", "generate_audio": False},
    ),
    ("image to video", "image2video", {**IMAGE, "mode": "pro"}),
    ("first and last frame", "image2video", FRAMES),
    (
        "motion control",
        "motion_control",
        {**MOTION, "keep_original_sound": True, "character_orientation": "image", "mode": "pro"},
    ),
    ("omni video", "omni_video", OMNI),
    ("omni video in shots", "omni_video", {**SHOTS, "mode": "pro"}),
    ("several images", "multi_image2video", MULTI),
)
# Models that differ from the account's usual one, by label.
MODELS: Final = {
    "agentsflare": {
        "motion control": "kling-v2-6",
        "omni video": "kling-video-o1",
        "several images": "kling-v1-6",
    },
    "kling": {
        "motion control": "kling-v2-6",
        "omni video": "kling-video-o1",
        "several images": "kling-v1-6",
        "camera": "kling-v1",
        "masks": "kling-v1",
    },
    "kling_new": {
        "text to video": "kling-3.0-turbo",
        "image to video": "kling-3.0-turbo",
        "omni video": "kling-3.0-omni",
        "shots": "kling-3.0-turbo",
    },
}
WANTED: Final[dict[str, tuple[str, tuple[Wanted, ...]]]] = {
    "dreamto": (
        "kling-k3.0-std",
        (
            (
                "text to video",
                "text2video",
                {**TEXT, **REFINED, "resolution": "720p", "generate_audio": False},
            ),
            (
                "image to video",
                "image2video",
                {**IMAGE, "fixed_lens": False, "aspect_ratio": "16:9"},
            ),
            ("video reference", "image2video", {**IMAGE, "video_url": CLIP}),
            (
                "audio reference",
                "image2video",
                {**IMAGE, "audio_url": "https://example.com/audio.mp3"},
            ),
            ("camera", "image2video", {**IMAGE, "camera_control": CAMERA}),
            ("masks", "image2video", {**IMAGE, **MASKS}),
        ),
    ),
    "uniall": (
        "kling-v3-std-audio",
        (
            (
                "text to video",
                "text2video",
                {**TEXT, "cfg_scale": 0.5, "negative_prompt": "blurry"},
            ),
            ("image to video", "image2video", {**IMAGE, "aspect_ratio": "16:9"}),
            ("first and last frame", "image2video", FRAMES),
            (
                "shots",
                "image2video",
                {
                    "image_url": FIRST,
                    "shots": [
                        {"prompt": "The head is bowed."},
                        {"prompt": "It is raised toward the camera."},
                    ],
                    "shot_type": "customize",
                    "duration": 10,
                },
            ),
        ),
    ),
    "cubicspaces": (
        "kling-v3",
        (
            ("text to video", "text2video", {**TEXT, **REFINED, "size": "1920x1080"}),
            ("image to video", "image2video", {**IMAGE, "aspect_ratio": "16:9"}),
            ("first and last frame", "image2video", {**FRAMES, "aspect_ratio": "16:9"}),
            ("camera", "image2video", {**IMAGE, "camera_control": CAMERA, "aspect_ratio": "16:9"}),
            ("masks", "image2video", {**IMAGE, **MASKS, "aspect_ratio": "16:9"}),
        ),
    ),
    "cubicspaces_kling": (
        "kling-v3",
        (
            (
                "text to video",
                "text2video",
                {**TEXT, "mode": "std", "negative_prompt": "blur, distortion"},
            ),
            ("image to video", "image2video", {**IMAGE, "mode": "std", "aspect_ratio": "16:9"}),
        ),
    ),
    "cloudsway": (
        "kling-3.0-turbo",
        (
            ("text to video", "text2video", {**TEXT, "resolution": "1080p", "watermark": False}),
            ("image to video", "image2video", {**IMAGE, "resolution": "1080p"}),
            (
                "shots",
                "text2video",
                {name: SHOTS[name] for name in ("shots", "duration", "aspect_ratio")},
            ),
        ),
    ),
    "agentsflare": ("kling-v3-omni", LEGACY),
    "kling": (
        "kling-v3-omni",
        (
            *LEGACY,
            ("camera", "text2video", {"prompt": PROMPT, "duration": 5, "camera_control": CAMERA}),
            ("masks", "image2video", {**IMAGE, **MASKS}),
        ),
    ),
    "kling_new": (
        "kling-3.0",
        (
            ("text to video", "text2video", {**TEXT, "resolution": "1080p", "watermark": False}),
            ("image to video", "image2video", {**IMAGE, "resolution": "1080p"}),
            ("first and last frame", "image2video", FRAMES),
            (
                "omni video",
                "omni_video",
                {**TEXT, "image_urls": [FIRST, LAST], "elements": [{"element_id": "8584"}]},
            ),
            (
                "shots",
                "text2video",
                {name: SHOTS[name] for name in ("shots", "duration", "aspect_ratio")},
            ),
        ),
    ),
}


def _orders() -> Iterator[tuple[str, str, JsonObject]]:
    for account, (usual, wanted) in WANTED.items():
        for label, capability, given in wanted:
            model = MODELS.get(account, {}).get(label, usual)
            yield (
                account,
                label,
                {"account": account, "model": model, "capability": capability, "input": given},
            )


#: (account name, label, submit body), for every account of `accounts.SIMULATED`.
ORDERS: Final = tuple(_orders())
