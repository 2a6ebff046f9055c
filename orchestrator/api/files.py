"""Uploads: a reference file is forwarded to a vendor that takes it. Nothing of it is stored.

The file is spooled to the disk while it arrives, since the vendor is only known once the form is
complete, and is read from there as fast as the vendor takes it.
"""

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
from orchestrator.api.operation import FORM, operation, returns
from orchestrator.api.problems import Refusal
from orchestrator.api.requests import Upload
from orchestrator.api.submission_checks import vendor_of
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.admission import Admission, Limit, Slot
from orchestrator.foundation.errors import Exchange, Fault, Problem, Unsupported

log = structlog.get_logger()

#: Bytes for the other fields and the boundaries between parts.
_OVERHEAD = 64 * 1024
_MAX_UPLOADS = 200
#: Seconds.
_DEADLINE = 60.0
_WORD = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_FIELDS = ("account", "kind", "purpose")


class Uploads:
    """Forwards files. Their bytes are bounded in total, and half of that for each key."""

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        self._cap = settings.upload_bytes
        total = max(settings.uploads_in_flight_bytes, 2 * (self._cap + _OVERHEAD))
        limits = Limit(_MAX_UPLOADS, total), Limit(_MAX_UPLOADS // 2, total // 2)
        self._admission = Admission(runtime.rng, *limits)

    @operation(
        "Upload a file",
        responses={
            "2XX": returns(
                schemas.VendorAnswer, description="The vendor's response, with its status"
            )
        },
        problems=("malformed_form", "unsupported", "vendor_error"),
        body=Upload,
        media_type=FORM,
    )
    async def upload(self, context: RequestContext) -> Response:
        """A reference file is forwarded to a vendor that takes uploads. Nothing of it is stored."""
        request, cap = context.request, self._cap + _OVERHEAD
        request_body.check_media_type(request, "multipart/form-data")
        with request_body.admit(self._admission, context.caller.id, request, cap) as slot:
            form = await _read_form(request, slot, cap)
            try:
                return await _forward(context, *_checked(form))
            finally:
                await form.close()


async def _forward(
    context: RequestContext, fields: Mapping[str, str], file: UploadFile
) -> Response:
    """Send a file to its vendor. Raises a `Problem` 422 or 502."""
    vendor, name = vendor_of(context.runtime.vendors, fields.get("account")), file.filename
    try:
        request = vendor.upload(fields["kind"], fields["purpose"], _safe_name(name), file.file)
    except Unsupported as error:
        raise problems.invalid_field("/account", "unsupported", error.why) from None
    try:
        response = await context.runtime.submission_client.send(request, deadline=_DEADLINE)
    except Exchange as error:
        log.warning(
            "an upload did not reach the vendor", account=vendor.account.name, error=str(error)
        )
        raise _vendor_error(f"{vendor.name}: {error}") from None
    return _forwarded(vendor.name, response)


async def _read_form(request: Request, slot: Slot, cap: int) -> FormData:
    """Return the fields. Raises `Problem` 400 or 413, and `Unavailable`."""
    capped = Request(request.scope, _capped(request.receive, slot, cap))
    try:
        return await capped.form(max_files=1, max_fields=8, max_part_size=1024)
    except (HTTPException, MultiPartException, ValueError, LookupError):
        detail = "the body is not a form with one file and a few short fields"
        raise Refusal("malformed_form", detail) from None


def _capped(receive: Receive, slot: Slot, cap: int) -> Receive:
    """Return a `receive` that raises a 413 `Problem` as soon as the body is over the cap.

    It takes room in `slot` for what arrives, and raises `Unavailable` if there is none.
    """
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > cap:
            raise problems.too_large(cap - _OVERHEAD)
        slot.hold(size)
        return message

    return counted


def _checked(form: FormData) -> tuple[Mapping[str, str], UploadFile]:
    """Return the text fields and the file. Raises a 422 `Problem` naming every wrong field."""
    faults = [
        Fault(f"/{name[:64]}", "extra_forbidden", "No such field")
        for name in form
        if name not in (*_FIELDS, "file")
    ]
    fields: dict[str, str] = {}
    for name in _FIELDS:
        match form.getlist(name):
            case [str(word)] if _WORD.fullmatch(word):
                fields[name] = word
            case [] if name == "account":
                continue
            case []:
                faults.append(Fault(f"/{name}", "missing", "Field required"))
            case _:
                message = "One word of up to 64 letters, digits and _.:-"
                faults.append(Fault(f"/{name}", "string_pattern", message))
    match form.getlist("file"):
        case [UploadFile() as file] if not faults:
            return fields, file
        case [UploadFile()]:
            raise problems.invalid_fields(faults)
        case _:
            faults.append(Fault("/file", "missing", "One file is required"))
            raise problems.invalid_fields(faults)


def _safe_name(filename: str | None) -> str:
    """Return the last part of a file's name, in characters that are safe in a header."""
    last = re.split(r"[/\\]", filename or "")[-1]
    return re.sub(r"[^\w.() -]", "_", last, flags=re.ASCII)[-120:] or "file"


def _forwarded(vendor: str, response: httpx.Response) -> Response:
    status = response.status_code
    if not response.is_success:
        raise _vendor_error(f"{vendor} answered {status}", status)
    try:
        return reply(request_body.parse(response.content), status)
    except Problem:
        # The same bounds as for callers: no half of a surrogate pair, no number out of range.
        detail = f"{vendor} answered {status} with something that is not JSON"
        raise _vendor_error(detail, status) from None


def _vendor_error(detail: str, status: int | None = None) -> Problem:
    members = {} if status is None else {"vendor_status": str(status)}
    return Refusal("vendor_error", detail, **members)
