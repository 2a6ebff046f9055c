"""A FastAPI application with the service under /video.

    MY_APP_URL=https://my.app uvicorn embedded_fastapi:app

Accounts come from `orchestrator.toml` or ORCHESTRATOR_* variables, as for `orchestrator serve`.
Arguments override them. Without `from_config`, arguments are the only settings.
"""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import Body, FastAPI
from pydantic import BaseModel

from orchestrator.embed import Orchestrator

video = Orchestrator.from_config(public_url=os.environ["MY_APP_URL"] + "/video")
app = FastAPI(lifespan=video.lifespan)
app.mount("/video", video)


class Film(BaseModel):
    """A job's id and status, and the URLs of its films as soon as there are any."""

    job: str
    status: str
    urls: list[str]


@app.post("/films")
async def make(prompt: Annotated[str, Body(embed=True)]) -> Film:
    """Submit a job, and wait for its film for up to a minute."""
    job = await video.client.submit(model="kling-v3", input={"prompt": prompt}, wait=60)
    return Film(job=job.id, status=job.status, urls=job.urls)


@app.get("/films/{job_id}")
async def look(job_id: str) -> Film:
    """Return the job and its films."""
    job = await video.client.jobs.get(job_id)
    return Film(job=job.id, status=job.status, urls=job.urls)
