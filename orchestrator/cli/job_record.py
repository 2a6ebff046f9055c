"""The fields of a job, as commands display them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from orchestrator.cli.terminal import Record, moment
from orchestrator.schemas import Job, JobError, OutputFile

#: Characters of a value of the input or the metadata; an image may be inside.
_LONGEST = 300


def shown(job: Job) -> Record:
    """Return the fields of a job to display, in order."""
    error = job.error
    return {
        "id": job.id,
        "status": job.status,
        "account": f"{job.account} ({job.vendor})",
        "model": job.model,
        "capability": job.capability,
        "external id": job.external_task_id,
        "vendor id": job.vendor_task_id,
        "vendor status": job.vendor_status,
        "progress": None if job.progress is None else f"{job.progress} %",
        "resolved by": job.resolved_by,
        "retry of": job.retry_of,
        "priority": job.priority or None,
        "fairness key": job.fairness_key,
        "created": moment(job.created_at),
        "starts": moment(job.start_after) if job.start_after else None,
        "finished": moment(job.finished_at),
        "deadline": moment(job.deadline_at),
        "next poll": moment(job.next_poll_at) if job.next_poll_at else None,
        "error": _joined(error.code, error.message) if error else None,
        "vendor error": _joined(error.vendor_code, error.vendor_message) if error else None,
        "input": _values(job.input),
        "metadata": _values(job.metadata),
        "output": job.urls,
        "watermarked": [file.watermark_url for file in outputs(job) if file.watermark_url],
        "billing": None if job.billing is None else _text(job.billing),
    }


def outputs(job: Job) -> list[OutputFile]:
    """Return a succeeded job's files, videos first."""
    return job.output.files if job.output else []


def reason(error: JobError | None) -> str:
    """Return why a job failed: our code, and the vendor's words, or ours where it sent none."""
    if error is None:
        return ""
    vendors = _joined(error.vendor_code, error.vendor_message)
    return _joined(error.code, vendors or error.message)


def _joined(*parts: object) -> str:
    return ": ".join(str(part) for part in parts if part not in (None, ""))


def _values(values: Mapping[str, object]) -> list[str]:
    """Return `name=value` for each value."""
    return [f"{name}={_text(value)}" for name, value in values.items()]


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}... ({len(text):,} characters; --json shows all)"
