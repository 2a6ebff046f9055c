"""A FastAPI application that has the service in it, under /video.

    MY_APP_URL=https://my.app uvicorn embedded_fastapi:app

Accounts come from `orchestrator.toml` or ORCHESTRATOR_* variables, as for `orchestrator serve`. What is said here has
the last word; without `from_config` it is all there is, and nothing is read.
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
    """What the caller gets: the job's id to come back with, and the films once there are any."""

    job: str
    status: str
    urls: list[str]


@app.post("/films")
async def make(prompt: Annotated[str, Body(embed=True)]) -> Film:
    """Have a film made, and wait for it a minute at most."""
    job = await video.client.submit(model="kling-v3", input={"prompt": prompt}, wait=60)
    return Film(job=job.id, status=job.status, urls=job.urls)


@app.get("/films/{job_id}")
async def look(job_id: str) -> Film:
    """Come back for it."""
    job = await video.client.jobs.get(job_id)
    return Film(job=job.id, status=job.status, urls=job.urls)
