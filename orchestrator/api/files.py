"""Uploads: a reference file is passed on to a vendor that takes it. Nothing of it is kept here."""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx
import structlog
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from orchestrator import schemas
from orchestrator.api import problems, request_body
from orchestrator.api.endpoint import RequestContext, reply
from orchestrator.api.job_submission import account_named
from orchestrator.api.operation import FORM, answer, operation
from orchestrator.api.problems import Refusal
from orchestrator.api.requests import Upload
from orchestrator.foundation.errors import Exchange, Fault, Problem, Unreadable, Unsupported
from orchestrator.foundation.json_codec import parse

log = structlog.get_logger()

FILE_CAP = 25 * 1024 * 1024
#: For the other fields and the lines between parts.
_ROOM = 64 * 1024
_DEADLINE = 60.0
_WORD = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_FIELDS = ("account", "kind", "purpose")


@operation(
    "Upload a file",
    answers={"2XX": answer(schemas.VendorAnswer, says="What the vendor answered, with its status")},
    refuses=("malformed_form", "unsupported", "vendor_error"),
    body=Upload,
    media=FORM,
)
async def upload(call: RequestContext) -> Response:
    """A reference file is passed on to a vendor that takes uploads. Nothing of it is kept here."""
    request_body.check_media(call.request, "multipart/form-data")
    form = await _form(call.request)
    try:
        words, file = _checked(form)
        content = await file.read()
    finally:
        await form.close()
    vendor = account_named(call.runtime, words.get("account"))
    try:
        request = vendor.upload(words["kind"], words["purpose"], _plain(file.filename), content)
    except Unsupported as error:
        raise problems.fault("/account", "unsupported", error.why) from None
    try:
        answer = await call.runtime.submission_client.send(request, deadline=_DEADLINE)
    except Exchange as error:
        log.warning(
            "an upload did not reach the vendor", account=vendor.account.name, error=str(error)
        )
        raise _failed(f"{vendor.name}: {error}") from None
    return _passed_on(vendor.name, answer)


async def _form(request: Request) -> FormData:
    """Return the fields. Raises `Problem` 400 or 413."""
    capped = Request(request.scope, _capped(request.receive, FILE_CAP + _ROOM))
    try:
        return await capped.form(max_files=1, max_fields=8, max_part_size=1024)
    except (HTTPException, MultiPartException, ValueError, LookupError):
        why = "the body is not a form with one file and a few short fields"
        raise Refusal(
            why, status=400, code="malformed_form", title="The body is not a form"
        ) from None


def _capped(receive: Receive, cap: int) -> Receive:
    """Return `receive` that counts, so that a body is refused while it streams."""
    left = cap

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise problems.too_large(FILE_CAP)
        return message

    return counted


def _checked(form: FormData) -> tuple[Mapping[str, str], UploadFile]:
    """Return the words and the file. Raises a 422 `Problem` naming every field that is wrong."""
    faults = [
        Fault(f"/{name[:64]}", "extra_forbidden", "No such field")
        for name in form
        if not _is_known(name)
    ]
    words: dict[str, str] = {}
    for name in _FIELDS:
        match form.getlist(name):
            case [str(word)] if _WORD.fullmatch(word):
                words[name] = word
            case [] if name == "account":
                continue
            case []:
                faults.append(Fault(f"/{name}", "missing", "Field required"))
            case _:
                faults.append(
                    Fault(
                        f"/{name}",
                        "string_pattern",
                        "One word of up to 64 letters, digits and _.:-",
                    )
                )
    match form.getlist("file"):
        case [UploadFile() as file] if not faults:
            return words, file
        case [UploadFile()]:
            raise problems.faulty(faults)
        case _:
            raise problems.faulty([*faults, Fault("/file", "missing", "One file is required")])


def _is_known(name: str) -> bool:
    return name in _FIELDS or name == "file"


def _plain(filename: str | None) -> str:
    """Return the last part of a file's name, in characters that no header can trip over."""
    last = re.split(r"[/\\]", filename or "")[-1]
    return re.sub(r"[^\w.() -]", "_", last, flags=re.ASCII)[-120:] or "file"


def _passed_on(vendor: str, answer: httpx.Response) -> Response:
    if not answer.is_success:
        raise _failed(f"{vendor} answered {answer.status_code}", status=answer.status_code)
    try:
        return reply(parse(answer.content), answer.status_code)
    except Unreadable:
        why = f"{vendor} answered {answer.status_code} with something that is not JSON"
        raise _failed(why, status=answer.status_code) from None


def _failed(why: str, status: int | None = None) -> Problem:
    said = {} if status is None else {"vendor_status": str(status)}
    return Refusal(
        why, faults=(), status=502, code="vendor_error", title="The vendor did not take it", **said
    )
