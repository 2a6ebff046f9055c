"""Gateway document 3: Cloudsway, Kling's new standard under a path with the account's endpoint."""

from __future__ import annotations

from typing import Final

from orchestrator.simulator import body_fields as fields
from orchestrator.simulator import kling_api, kling_new, schema
from orchestrator.simulator.contract import Dialect, QueryEndpoint
from orchestrator.simulator.task_ids import kling_ids

ENDPOINT_PATH: Final = "sim-endpoint"
ROOT: Final = "/v1/ai/{endpoint_path}/kling"
RESOLUTION: Final = schema.enum("720p", "1080p")
FIRST_FRAME: Final = kling_new.entry("first_frame", {"url": fields.MEDIA})

CLOUDSWAY: Final = Dialect(
    mount="cloudsway",
    submit_endpoints=(
        kling_new.submit_endpoint(
            ROOT + "/videos/text-to-video/kling-3.0-turbo",
            "text-to-video",
            "text2video",
            kling_new.text_body(resolution=RESOLUTION),
        ),
        kling_new.submit_endpoint(
            ROOT + "/videos/image-to-video/kling-3.0-turbo",
            "image-to-video",
            "image2video",
            kling_new.contents_body({"first_frame": FIRST_FRAME}, resolution=RESOLUTION),
            kling_new.frame_rules,
        ),
    ),
    query_endpoints=(
        QueryEndpoint(ROOT + "/tasks", kling_new.query_response, kling_new.TASK_ARGS),
    ),
    new_ids=kling_ids,
    error_reply=kling_api.error_reply,
    unique_external_ids=True,
    path_values={"endpoint_path": ENDPOINT_PATH},
)
