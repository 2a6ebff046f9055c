"""Error responses: which of our error codes one means, and whether a retry may succeed.

The body decides before the status. The numbers are Kling's official service codes, which its
gateways pass through. HTTP 429 alone is ambiguous there: it carries rate limits (wait) and
exhausted accounts (do not).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.foundation.errors import CutOff, Refused
from orchestrator.foundation.untrusted import code as read_code
from orchestrator.foundation.untrusted import text
from orchestrator.vendors.report import EXTERNAL_IDS, IDS


@dataclass(frozen=True, slots=True)
class ErrorClass:
    """Our error code for a vendor's, and whether the same request may succeed later."""

    code: str
    retryable: bool = False
    rate_limited: bool = False


_AUTH = ErrorClass("vendor_auth")
_CLOCK = ErrorClass("vendor_auth", retryable=True)
_EXHAUSTED = ErrorClass("account_exhausted")
_REFUSED = ErrorClass("vendor_refused")
_RATE_LIMITED = ErrorClass("vendor_unavailable", retryable=True, rate_limited=True)
_LATER = ErrorClass("vendor_unavailable", retryable=True)

#: Kling's service codes below 5000 (get-started/error-codes).
#: 1003, 1004: the token is not yet valid, or expired; sign again.
OFFICIAL: Mapping[int, ErrorClass] = {
    **dict.fromkeys((1000, 1001, 1002, 1304), _AUTH),
    **dict.fromkeys((1003, 1004), _CLOCK),
    **dict.fromkeys((1100, 1101, 1102, 1103), _EXHAUSTED),
    **dict.fromkeys((1200, 1201, 1202, 1203, 1300, 1301), _REFUSED),
    **dict.fromkeys((1302, 1303), _RATE_LIMITED),
}
#: For responses without a known code. Any other 4xx is a definite refusal; after any status that
#: is neither here nor 4xx, the vendor may have acted on the request.
BY_STATUS: Mapping[int, ErrorClass] = {401: _AUTH, 402: _EXHAUSTED, 425: _LATER, 429: _RATE_LIMITED}
#: Codes that are words, in lower case: they prove that the request was not forwarded, whatever the
#: status (new-api, `types/error.go` and `relay/relay_task.go`; OpenAI, guides/error-codes).
#: `_LATER`: a gateway has no way to a vendor, which may pass after a 5xx alone.
BY_WORD: Mapping[str, ErrorClass] = {
    word: error_class
    for error_class, words in {
        _EXHAUSTED: (
            "insufficient_user_quota", "insufficient_quota", "insufficient_balance",
            "insufficient_credits", "insufficient_funds", "payment_required", "quota_not_enough",
            "quota_exhausted", "balance_not_enough", "account_overdue_error",
            "pre_consume_token_quota_failed", "billing_hard_limit_reached", "billing_not_active",
            "arrearage",
        ),
        _AUTH: ("invalid_api_key", "invalid_token", "authentication_error", "unauthorized"),
        _RATE_LIMITED: ("rate_limit_exceeded", "rate_limited", "too_many_requests"),
        _REFUSED: (
            "build_request_failed", "invalid_request", "invalid_request_error", "bad_request_body",
            "read_request_body_failed", "convert_request_failed", "count_token_failed",
            "model_price_error", "invalid_api_type", "invalid_api_platform", "json_marshal_failed",
            "gen_relay_info_failed", "access_denied", "sensitive_words_detected", "prompt_blocked",
            "content_policy_violation", "moderation_blocked", "channel:model_mapped_error",
            "channel:param_override_invalid", "channel:header_override_invalid",
        ),
        _LATER: (
            "model_not_found", "get_channel_failed", "no_available_channel", "channel:invalid_key",
            "channel:no_available_key", "system_cpu_overloaded", "system_memory_overloaded",
            "system_disk_overloaded",
        ),
    }.items()
    for word in words
}  # fmt: skip
#: Words of a message, where the code is none of these.
_EXHAUSTED_WORDS = re.compile(
    r"insufficient[\w ]{0,24}(?:balance|quota|credit|fund|points)"
    r"|(?:balance|quota|credits?|funds?) (?:is |are |has |have )?(?:been )?"
    r"(?:insufficient|not enough|too low|exhausted|used up|depleted)"
    r"|(?:not|n't)(?: have)? enough (?:balance|quota|credits?|funds?|points)"
    r"|(?:out of|no (?:more|remaining)) credits?|no credits? (?:left|remaining)|in arrears"
    r"|exceeded (?:your )?current quota|balance is (?:negative|zero|0(?![.\d]))|account ?overdue"
    r"|payment required|\b(?:top up|please recharge)\b"
    r"|(?:余额|额度|配额|点数|积分|次数|资源包|套餐)已?(?:不足|不够|用[尽完]|耗尽|为 ?0)"
    r"|欠费|请充值|预扣费额度失败|pre-consumed quota failed"
)
_RATE_WORDS = re.compile(
    r"(?<!frame )\brate.?limit|too many requests|requests per (?:minute|second)|过于频繁|限流"
)
_NO_CHANNEL_WORDS = re.compile(
    r"no (?:available|healthy) (?:channel|upstream|provider|account|deployment)"
    r"|无可用渠道|可用渠道不存在"
)
#: Statuses of a server that did not hear the one behind it (520 to 527: Cloudflare), and words of
#: one that failed itself: it may have sent the request on before.
_NOT_HEARD = frozenset((408, 502, 504, *range(520, 528)))
_OWN_FAULT_WORDS = re.compile(
    r"tim(?:e|ed)[ -]?out|deadline|internal|server error|upstream|connect|reset|hang.?up|\beof\b"
    r"|socket|network|broken pipe|econn|unavailable|later|again|busy|overload|save|store|database"
    r"|exception|unknown|unexpected|超时|内部|服务器|服务异常|系统|稍后|繁忙|网络|连接|未知"
)
#: Words of a message about the external id of an earlier request of ours.
_DUPLICATE_WORDS = re.compile(
    r"duplicat|already (?:exist|been|used|in use|submitted|taken)|exists|must be unique|not unique"
    r"|id (?:has been (?:used|submitted|taken)|(?:is )?repeated)|重复|已存在|已提交|已被[使占]用"
)
_TASK_WORDS = re.compile(r"task|job|video|generation|任务")
_ABSENT_WORDS = re.compile(
    r"not.?(?:found|exist)|n't exist|no such|unknown (?:task|job|video|id)|cannot find"
    r"|不存在|未找到|找不到"
)
#: Words about an address, which may itself hold such a word: `Cannot GET /v1/videos/1`.
_ADDRESS_WORDS = re.compile(
    r"\b(?:url|uri|route|path|endpoint|page|method|model|handler|service|deployment|project)\b"
    r"|invalid_url|\bstatic resource\b|\bv[0-9]\w*/|(?:^|[\s'\"(])/\w"
)

#: The words of a code.
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W_A-Za-z]+")
_SUCCESS_WORDS = frozenset(
    ("success", "succeed", "succeeded", "successful", "ok", "accepted", "created", "成功")
)
#: The end of a message that says so: ThinkPHP's code of a success is 1.
_SUCCESS_PHRASE = re.compile(
    r"(?:(?<!not )\bsuccess(?:ful(?:ly)?)?|(?<![未不没])成功)[!.！。]*$", re.IGNORECASE
)
_FAILURE_WORDS = frozenset(("error", "fail", "failed", "failure"))
#: Kling's internal errors. Their HTTP status varies, and the task may exist all the same.
_INTERNAL = range(5000, 6000)
#: Statuses and codes about the key, the account or its limits, or of a server that failed.
_ABOUT_NO_TASK = frozenset(
    (
        *(401, 403, 429, *range(500, 600), *_INTERNAL),
        *(code for code, meaning in OFFICIAL.items() if meaning != _REFUSED),
    )
)
_CODES = (
    "code", "error_code", "errorCode", "err_code", "errcode", "errno", "fail_code", "failCode",
    "failure_code", "failureCode", "status_code", "statusCode",
)  # fmt: skip
_MESSAGES = (
    "task_status_msg", "fail_reason", "failure_reason", "failReason", "fail_msg", "failMsg",
    "message", "msg", "error_message", "errorMessage", "error_msg", "errmsg", "err_msg",
    "error_description", "raw_message", "status_msg", "detail", "description", "reason", "failure",
    "error", "errors",
)  # fmt: skip

#: Objects that hold what a gateway passes on, and how many lie within each other.
_INNER = ("data", "output", "result")
_DEPTH = 4


def error_fields(body: Any) -> tuple[str | int | None, str | None]:
    """Return the code and the message of a parsed body, in any of the gateways' envelopes."""
    if isinstance(body, str):
        return None, text(body)
    places = _places(body)
    codes = (read_code(place[key]) for place in places for key in _CODES if key in place)
    code = next((one for one in codes if one not in (None, "")), None)
    if code is None and isinstance(body, Mapping):
        # The HTTP status of an error, within the body of another.
        status = read_code(body.get("status"))
        code = status if isinstance(status, int) and 400 <= status < 600 else None
    message = next(_messages(places), None)
    if message is None:
        passed_on = _messages(_nested(body))
        message = next((one for one in passed_on if not is_success(one)), None)
    return code, message


def _messages(places: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    found = (_message(place[key]) for place in places for key in _MESSAGES if key in place)
    return filter(None, found)


def _places(body: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a body that may hold its error, the most telling first."""
    if not isinstance(body, Mapping):
        return []
    errors, data = body.get("errors"), body.get("data")
    places = (
        body.get("error"),
        errors[0] if isinstance(errors, list) and errors else None,
        data.get("error") if isinstance(data, Mapping) else None,
        # FastAPI's, of an application that raises an object.
        body.get("detail"),
        # MiniMax's, beside an empty id.
        body.get("base_resp"),
        body,
    )
    return [place for place in places if isinstance(place, Mapping)]


def _nested(body: Any) -> list[Mapping[str, Any]]:
    """Return a body and the objects within it, the innermost first: gateways pass on answers."""
    found: list[Mapping[str, Any]] = []
    while isinstance(body, Mapping) and len(found) < _DEPTH:
        found.insert(0, body)
        inner = (body[key] for key in _INNER if key in body)
        body = next((one for one in inner if isinstance(one, Mapping)), None)
    return found


def _message(value: Any) -> str | None:
    """Return an error text: the first of a list, of objects with `msg`, or of the texts of fields.

    FastAPI has the objects, NestJS the list, Laravel the fields.
    """
    if isinstance(value, Mapping):
        fields = (one for key, one in value.items() if key not in _CODES)
        value = next((one for one in fields if one and isinstance(one, list | str)), None)
    if isinstance(value, list) and value:
        value = value[0].get("msg") if isinstance(value[0], Mapping) else value[0]
    return text(value)


def is_unknown_task(status: int, body: Any) -> bool:
    """Return whether a response means "no such task".

    A 404 of a gateway that does not know the address, or a page, says nothing about the task.
    """
    code, message = error_fields(body)
    if not isinstance(body, Mapping) or not _ABOUT_NO_TASK.isdisjoint((status, code)):
        return False
    words = f"{code} {message or ''}".lower()
    is_about_a_task = _TASK_WORDS.search(words) and not _ADDRESS_WORDS.search(words)
    return bool(is_about_a_task) and (status in (404, 410) or bool(_ABSENT_WORDS.search(words)))


def classify(
    vendor: str, status: int, body: Any, *, wait: float | None = None
) -> Refused | CutOff | None:
    """Return the error that a response without a task means, or None if it is not an error.

    `body` is parsed, None if it was not JSON; `wait` is Retry-After in seconds.
    """
    code, message = error_fields(body)
    if 200 <= status < 300 and not _is_error(body, code):
        return None
    detail = (
        f"{vendor} answered {status}"
        + (f", code {code}" if code else "")
        + (f": {message}" if message else "")
    )
    words = _words(code, message)
    error_class = _error_class(status, code, body, words)
    if error_class is None:
        return CutOff(detail, kind="server_error" if status >= 500 else "bad_response")
    return Refused(
        detail,
        code=error_class.code,
        vendor_code=code,
        vendor_message=message,
        retryable=error_class.retryable,
        rate_limited=error_class.rate_limited,
        retry_after=wait,
        # An earlier copy of the request may have been accepted.
        duplicate=status == 409
        or (
            error_class == _REFUSED
            and bool(_DUPLICATE_WORDS.search(words))
            and not _ABSENT_WORDS.search(words)
        ),
    )


def _words(code: str | int | None, message: str | None) -> str:
    """Return the words of a code and of a message in lower case: `NoCredits` is `no credits`."""
    parts = _PARTS.findall(code) if isinstance(code, str) else []
    return " ".join((*parts, message or "")).lower()


def _is_error(body: Any, code: str | int | None) -> bool:
    """Return whether the body of a 2xx says no: an error, or a code of one beside its words."""
    if not isinstance(body, Mapping):
        return False
    words = (body.get("status"), body.get("result"))
    if any(isinstance(word, str) and word.strip().lower() in _FAILURE_WORDS for word in words):
        return True
    if states_error(body) or is_error_code(code):
        return True
    # Not the words of what is inside: they may be those of a task.
    message = next(_messages(_places(body)), None)
    return not (is_success(code) or is_success(message) or message is None)


def states_error(body: Mapping[str, Any]) -> bool:
    """Return whether a body has an error or a flag that says so, whatever its words are."""
    error = body.get("error")
    if isinstance(error, Mapping):
        # PiAPI's form with code 0 and empty texts is that of no error.
        error = any(error.values())
    return bool(error or body.get("errors")) or says_no(body)


def says_no(body: Any) -> bool:
    """Return whether a body has a flag that says that the request was not carried out."""
    if not isinstance(body, Mapping):
        return False
    flags = (body.get("success"), body.get("ok"))
    return False in flags or "false" in flags or body.get("status") is False


def is_error_code(code: str | int | None) -> bool:
    """Return whether a code is one of an error, whatever stands beside it."""
    if not isinstance(code, int):
        return False
    return code < 0 or 400 <= code < 600 or code in OFFICIAL or code in _INTERNAL


def is_success(value: str | int | None) -> bool:
    """Return whether a code, or a message, is one of success; no code is one too."""
    if isinstance(value, str):
        word = value.strip().lower()
        return word.rstrip("!.") in _SUCCESS_WORDS or bool(_SUCCESS_PHRASE.search(word))
    return value is None or value == 0 or 200 <= value < 300


def _error_class(status: int, code: str | int | None, body: Any, words: str) -> ErrorClass | None:
    """Return the class of an error, or None if the vendor may have acted on the request."""
    if isinstance(code, int):
        if code in OFFICIAL or code in _INTERNAL:
            return OFFICIAL.get(code)
        # The status of the error itself, within that of a proxy.
        if 400 <= code < (500 if status >= 500 else 600) and not 400 <= status < 500:
            status = code
    if found := _by_words(status, code, body, words):
        return found
    # 408: the vendor stopped reading, but may have read enough.
    if status in BY_STATUS or (200 <= status < 500 and status != 408):
        return BY_STATUS.get(status, _REFUSED)
    # A "no" of the gateway with its words. An error handler writes such a body too, perhaps after
    # the request has left, and even beside an id: then nothing is known.
    is_doubtful = status in _NOT_HEARD or code is not None or _OWN_FAULT_WORDS.search(words)
    if says_no(body) and words and not is_doubtful and not _names_a_task(body):
        return _REFUSED
    return None


def _names_a_task(body: Any) -> bool:
    """Return whether anything in a body may be the id of a task."""
    return any(place.get(key) for place in _nested(body) for key in (*IDS, *EXTERNAL_IDS))


def _by_words(status: int, code: str | int | None, body: Any, words: str) -> ErrorClass | None:
    """Return the class of an error by the words of its code, of its type and of its message."""
    error = body.get("error") if isinstance(body, Mapping) else None
    kind = text(error.get("type"), 64) if isinstance(error, Mapping) else None
    codes = [one for one in (code, kind) if isinstance(one, str)]
    for word in (*map(str.lower, codes), *("_".join(_words(one, None).split()) for one in codes)):
        if found := BY_WORD.get(word):
            return _REFUSED if found == _LATER and status < 500 else found
    if _RATE_WORDS.search(words) and status < 500:
        return _RATE_LIMITED
    if status not in _NOT_HEARD and _EXHAUSTED_WORDS.search(_words(kind, words)):
        return _EXHAUSTED
    return _LATER if status >= 500 and _NO_CHANNEL_WORDS.search(words) else None
