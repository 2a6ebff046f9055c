"""Gateway document 3: Cloudsway, Kling's new standard behind a path that names the account's endpoint."""

from __future__ import annotations

from typing import Final

from orchestrator.simulator.dialect import Dialect, Entrance, Inquiry
from orchestrator.simulator.fields import MEDIA
from orchestrator.simulator.kling import kling_names, kling_trouble, new_item, new_receipt
from orchestrator.simulator.new import (
    OPTIONS,
    PROMPT,
    TASK_ARGS,
    frame_rules,
    settings,
    tasks,
    text_body,
)
from orchestrator.simulator.shapes import array, matching, one_of, record, variant

ENDPOINT_PATH: Final = "sim-endpoint"
ROOT: Final = "/v1/ai/{endpoint_path}/kling"
RESOLUTION: Final = one_of("720p", "1080p")
CONTENTS: Final = array(
    variant(
        "type",
        {
            "prompt": record({"type": matching("prompt"), "text": PROMPT}),
            "first_frame": record({"type": matching("first_frame"), "url": MEDIA}),
        },
    )
)
IMAGE_BODY: Final = record(
    {"contents": CONTENTS}, {"settings": settings(resolution=RESOLUTION), "options": OPTIONS}
)

CLOUDSWAY: Final = Dialect(
    mount="cloudsway",
    entrances=(
        Entrance(
            ROOT + "/videos/text-to-video/kling-3.0-turbo",
            "text-to-video",
            text_body(RESOLUTION),
            lambda _: "text2video",
            receipt=new_receipt,
            push=new_item,
            hooks="options",
        ),
        Entrance(
            ROOT + "/videos/image-to-video/kling-3.0-turbo",
            "image-to-video",
            IMAGE_BODY,
            lambda _: "image2video",
            receipt=new_receipt,
            push=new_item,
            hooks="options",
            rules=frame_rules,
        ),
    ),
    inquiries=(Inquiry(ROOT + "/tasks", tasks, TASK_ARGS),),
    names=kling_names,
    trouble=kling_trouble,
    unique_external_ids=True,
    path_values={"endpoint_path": ENDPOINT_PATH},
)
