"""A submission for everything that each simulated account can do; the demo submits them all."""

from __future__ import annotations

from typing import Final

from orchestrator.simulator.json_body import JSON, JsonObject

PROMPT: Final = "A golden retriever running on a sunny beach, cinematic lighting, slow motion"
FIRST: Final = "https://example.com/first-frame.png"
LAST: Final = "https://example.com/last-frame.png"
MASK: Final = "https://example.com/mask.png"
CLIP: Final = "https://example.com/clip.mp4"
AUDIO: Final = "https://example.com/audio.mp3"
BASIC: Final[JsonObject] = {"duration": 5, "aspect_ratio": "16:9"}
TEXT: Final[JsonObject] = {"prompt": PROMPT, **BASIC}
UNFRAMED_TEXT: Final[JsonObject] = {"prompt": PROMPT, "duration": 5}
IMAGE: Final[JsonObject] = {**UNFRAMED_TEXT, "image_url": FIRST}
WIDE_IMAGE: Final[JsonObject] = {**IMAGE, "aspect_ratio": "16:9"}
FRAMES: Final[JsonObject] = {**IMAGE, "last_image_url": LAST}
IMAGES: Final[JsonObject] = {**TEXT, "image_urls": [FIRST, LAST]}
ELEMENTS: Final[JSON] = [{"element_id": "8584"}]
CAMERA: Final[JsonObject] = {"type": "simple", "config": {"zoom": 5}}
MASKS: Final[JsonObject] = {
    "static_mask": MASK,
    "dynamic_masks": [{"mask": MASK, "trajectories": [{"x": 100, "y": 200}, {"x": 180, "y": 240}]}],
}
MOTION: Final[JsonObject] = {
    "prompt": PROMPT,
    "image_url": FIRST,
    "video_url": CLIP,
    "keep_original_sound": True,
    "character_orientation": "image",
}
SHOTS: Final[JsonObject] = {
    "shots": [
        {"prompt": "Wide shot of the city at dusk", "duration": 2},
        {"prompt": "Camera pushes toward the balcony", "duration": 3},
    ],
    **BASIC,
}
CUSTOM_SHOTS: Final[JsonObject] = {**SHOTS, "shot_type": "customize"}
UNTIMED_SHOTS: Final[JsonObject] = {
    "shots": [{"prompt": "The head is bowed."}, {"prompt": "It is raised toward the camera."}],
    "shot_type": "customize",
    "duration": 10,
}
OMNI: Final[JsonObject] = {
    "prompt": "Based on <<<video_1>>>, generate the next shot.",
    "videos": [{"video_url": CLIP, "refer_type": "feature", "keep_original_sound": True}],
    "aspect_ratio": "16:9",
}
REFINED: Final[JsonObject] = {"negative_prompt": "blurry, low quality", "cfg_scale": 0.5}

#: Label, model, capability, input.
Sample = tuple[str, str, str, JsonObject]


def sample(label: str, model: str, capability: str, given: JsonObject, **more: JSON) -> Sample:
    return label, model, capability, {**given, **more}


def text(model: str, **more: JSON) -> Sample:
    return sample("text to video", model, "text2video", TEXT, **more)


def image(label: str, model: str, given: JsonObject, **more: JSON) -> Sample:
    return sample(label, model, "image2video", given, **more)


LEGACY: Final = (
    text("kling-v3-omni", mode="pro", negative_prompt="blur", generate_audio=False),
    image("image to video", "kling-v3-omni", IMAGE, mode="pro"),
    image("first and last frame", "kling-v3-omni", FRAMES),
    sample("motion control", "kling-v2-6", "motion_control", MOTION, mode="pro"),
    sample("omni video", "kling-video-o1", "omni_video", OMNI, mode="pro"),
    sample("omni video in shots", "kling-v3-omni", "omni_video", CUSTOM_SHOTS, mode="pro"),
    sample("several images", "kling-v1-6", "multi_image2video", IMAGES),
)
SAMPLES: Final[dict[str, tuple[Sample, ...]]] = {
    "dreamto": (
        text("kling-k3.0-std", **REFINED, mode="std", resolution="720p", generate_audio=False),
        image("image to video", "kling-k3.0-std", WIDE_IMAGE, fixed_lens=False),
        image("video reference", "kling-k3.0-std", IMAGE, video_url=CLIP),
        image("audio reference", "kling-k3.0-std", IMAGE, audio_url=AUDIO),
        image("camera", "kling-k3.0-std", IMAGE, camera_control=CAMERA),
        image("masks", "kling-k3.0-std", IMAGE, **MASKS),
    ),
    "uniall": (
        text("kling-v3-std-audio", cfg_scale=0.5, negative_prompt="blurry"),
        image("image to video", "kling-v3-std-audio", WIDE_IMAGE),
        image("first and last frame", "kling-v3-std-audio", FRAMES),
        image("shots", "kling-v3-std-audio", {"image_url": FIRST}, **UNTIMED_SHOTS),
    ),
    "cubicspaces": (
        text("kling-v3", **REFINED, mode="std", size="1920x1080"),
        image("image to video", "kling-v3", WIDE_IMAGE),
        image("first and last frame", "kling-v3", WIDE_IMAGE, last_image_url=LAST),
        image("camera", "kling-v3", WIDE_IMAGE, camera_control=CAMERA),
        image("masks", "kling-v3", WIDE_IMAGE, **MASKS),
    ),
    "cubicspaces_kling": (
        text("kling-v3", mode="std", negative_prompt="blur, distortion"),
        image("image to video", "kling-v3", WIDE_IMAGE, mode="std"),
    ),
    "cloudsway": (
        text("kling-3.0-turbo", resolution="1080p", watermark=False),
        image("image to video", "kling-3.0-turbo", IMAGE, resolution="1080p"),
        sample("shots", "kling-3.0-turbo", "text2video", SHOTS),
    ),
    "agentsflare": LEGACY,
    "kling": (
        *LEGACY,
        sample("camera", "kling-v1", "text2video", UNFRAMED_TEXT, camera_control=CAMERA),
        image("masks", "kling-v1", IMAGE, **MASKS),
    ),
    "kling_new": (
        text("kling-3.0-turbo", resolution="1080p", watermark=False),
        image("image to video", "kling-3.0-turbo", IMAGE, resolution="1080p"),
        image("first and last frame", "kling-3.0", FRAMES),
        sample("omni video", "kling-3.0-omni", "omni_video", IMAGES, elements=ELEMENTS),
        sample("shots", "kling-3.0-turbo", "text2video", SHOTS),
    ),
}
#: (account, label, submission), for every account of `accounts.SIMULATED`.
SAMPLE_JOBS: Final[tuple[tuple[str, str, JsonObject], ...]] = tuple(
    (account, label, {"account": account, "model": model, "capability": kind, "input": given})
    for account, samples in SAMPLES.items()
    for label, model, kind, given in samples
)
