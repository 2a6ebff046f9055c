"""A TypeScript client generated from the OpenAPI document compiles in strict mode and works."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from tests.harness.api_caller import KEY
from tests.harness.live import live
from tests.third_party import node


async def test_a_client_generated_from_the_openapi_document_compiles_strictly_and_works(
    tmp_path: Path,
) -> None:
    installed = await asyncio.to_thread(node.packages)
    (tmp_path / "node_modules").symlink_to(installed / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for name in ("use.ts", "tsconfig.json"):
        shutil.copy(node.HERE / name, tmp_path)
    async with live(tmp_path) as it:
        (tmp_path / "openapi.json").write_bytes(
            (await it.outside.get(f"{it.url}/openapi.json")).content
        )
        # A field with a default is optional in a request; without this option it becomes required.
        generate = (
            node.NODE,
            "node_modules/openapi-typescript/bin/cli.js",
            "--default-non-nullable",
            "false",
        )
        await node.run_command(tmp_path, *generate, "openapi.json", "-o", "schema.ts")
        await node.run_command(
            tmp_path, node.NODE, "node_modules/typescript/bin/tsc", "--project", "tsconfig.json"
        )
        printed = json.loads(await node.run_command(tmp_path, node.NODE, "use.ts", it.url, KEY))
        (job,) = (await it.api.get("/v1/jobs"))["data"]
    assert printed == {
        "status": "succeeded",
        "listed": [job["output"]["videos"][0]["url"]],
        "refused": "not_found",
    }
