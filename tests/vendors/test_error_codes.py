"""The meaning of an error response, from its status, code and message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.foundation.errors import CutOff, Refused
from orchestrator.vendors.error_codes import classify, error_fields
from tests.harness.vendor_samples import SAMPLES

CODES = [
    entry
    for entry in json.loads((SAMPLES / "error_codes.json").read_bytes())["codes"]
    if entry["code"]
]
#: The table's groups as the error codes of a failed job.
OURS = {
    "auth": "vendor_auth",
    "account": "account_exhausted",
    "params": "vendor_refused",
    "policy": "vendor_refused",
}


@pytest.mark.parametrize("entry", CODES, ids=lambda entry: str(entry["code"]))
def test_every_official_code_is_classified_as_in_its_table(entry: dict[str, Any]) -> None:
    error = classify("kling", entry["http"], {"code": entry["code"], "message": entry["meaning"]})
    if entry["group"] == "server":
        assert isinstance(error, CutOff)
        return
    assert isinstance(error, Refused)
    special = {1304: "vendor_auth", 1302: "vendor_unavailable", 1303: "vendor_unavailable"}
    assert error.code == special.get(entry["code"]) or error.code == OURS[entry["group"]]
    assert error.retryable is (entry["retry"] != "no")
    assert error.rate_limited is (entry["group"] == "rate")
    assert error.vendor_code == entry["code"]


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, {"code": 0, "data": {}}, None),
        (200, {"code": "success", "data": {}}, None),
        (200, {"success": True, "msg": "ok"}, None),
        (200, {"success": False}, "vendor_refused"),
        (200, {"code": 400, "msg": "bad prompt"}, "vendor_refused"),
        (200, {"code": 429, "msg": "slow down"}, "vendor_unavailable"),
        (200, {"code": 503, "msg": "try later"}, "bad_response"),
        (200, {"code": 400}, "vendor_refused"),
        (200, {"status": 400, "message": "bad prompt"}, "vendor_refused"),
        (200, {"status": "400", "msg": "bad prompt"}, "vendor_refused"),
        (200, {"status": 503, "msg": "try later"}, "bad_response"),
        (200, {"status": 200, "msg": "bad prompt"}, None),
        (200, {"status": False, "message": "bad prompt"}, "vendor_refused"),
        (200, {"success": "false", "message": "bad prompt"}, "vendor_refused"),
        (200, {"statusCode": 400, "message": "bad prompt"}, "vendor_refused"),
        (200, {"errno": 2, "errmsg": "bad prompt"}, "vendor_refused"),
        (200, {"result": "error", "message": "bad prompt"}, "vendor_refused"),
        (200, {"base_resp": {"status_code": 1008, "status_msg": "no"}}, "vendor_refused"),
        (200, {"base_resp": {"status_code": 0, "status_msg": "success"}}, None),
        (200, {"success": False, "code": "InvalidApiKey"}, "vendor_auth"),
        (200, {"code": "OK", "message": ""}, None),
        (200, {"code": 202, "message": "created"}, None),
        (200, {"status": "error", "message": "no"}, "vendor_refused"),
        (200, {}, None),
        (200, None, None),
        (
            200,
            {"code": 1303, "message": "parallel task over resource pack limit"},
            "vendor_unavailable",
        ),
        (200, {"code": 1101}, "account_exhausted"),
        (200, {"code": 5000}, "bad_response"),
        (200, {"code": "strange"}, None),
        (200, {"code": 1, "data": {"message": "processing"}}, None),
        (200, {"code": -1, "data": {"message": "bad prompt"}}, "vendor_refused"),
        (200, {"code": "strange", "message": "no"}, "vendor_refused"),
        (400, {"code": 5000}, "bad_response"),
        (429, {"code": 1102}, "account_exhausted"),
        (429, None, "vendor_unavailable"),
        (402, None, "account_exhausted"),
        (401, {"error": {"message": "no", "code": ""}}, "vendor_auth"),
        (403, None, "vendor_refused"),
        (404, None, "vendor_refused"),
        (301, None, "vendor_refused"),
        (425, None, "vendor_unavailable"),
        (408, None, "bad_response"),
        (500, {"code": "build_request_failed"}, "vendor_refused"),
        (500, {"code": "do_request_failed"}, "server_error"),
        (500, {"code": 400, "message": "bad prompt"}, "vendor_refused"),
        (500, {"success": False, "message": "the prompt is blocked"}, "vendor_refused"),
        (500, {"success": False, "message": "internal error"}, "server_error"),
        (500, {"ok": False, "error": "read ECONNRESET"}, "server_error"),
        (500, {"status": False, "message": "socket hang up"}, "server_error"),
        (500, {"success": False}, "server_error"),
        (500, {"success": False, "message": "x", "data": {"task_id": "T1"}}, "server_error"),
        (500, {"message": "failed to deduct: Your balance is 0.52 USD"}, "server_error"),
        (504, {"message": "gateway: please top up"}, "server_error"),
        (500, {"success": False, "code": 5000, "message": "internal error"}, "server_error"),
        (500, {"success": False, "message": "upstream timeout"}, "server_error"),
        (502, {"success": False, "message": "bad gateway"}, "server_error"),
        (524, {"success": False, "message": "a timeout occurred"}, "server_error"),
        (503, {"success": False, "message": "busy"}, "server_error"),
        (503, {"success": False, "message": "bad prompt", "task_id": "T1"}, "server_error"),
        (503, {"success": False, "message": "the prompt is blocked"}, "vendor_refused"),
        (500, {"message": "用户余额不足"}, "account_exhausted"),
        (503, {"error": {"code": "model_not_found"}}, "vendor_unavailable"),
        (503, {"message": "No available channel for model x"}, "vendor_unavailable"),
        (404, {"error": {"code": "model_not_found"}}, "vendor_refused"),
        (503, {"message": "分组 default 下模型 x 的可用渠道不存在"}, "vendor_unavailable"),
        (503, {"message": "no available account for model x"}, "vendor_unavailable"),
        (503, {"message": "no healthy upstream"}, "vendor_unavailable"),
        (503, {"message": "busy"}, "server_error"),
        (403, {"code": "insufficient_user_quota"}, "account_exhausted"),
        (400, {"error": {"type": "insufficient_quota", "code": None}}, "account_exhausted"),
        (429, {"error": {"message": "You exceeded your current quota"}}, "account_exhausted"),
        (429, {"error": {"message": "Quota exceeded: requests per minute"}}, "vendor_unavailable"),
        (400, {"msg": "账户欠费"}, "account_exhausted"),
        (403, {"error": {"message": "预扣费额度失败, 用户剩余额度: 0.1"}}, "account_exhausted"),
        (400, {"code": "InsufficientCredits", "message": "x"}, "account_exhausted"),
        (400, {"code": "NOT_ENOUGH_CREDITS", "message": "x"}, "account_exhausted"),
        (403, {"code": "AccountOverdueError", "message": "x"}, "account_exhausted"),
        (400, {"message": "no credits left"}, "account_exhausted"),
        (403, {"message": "Your balance is negative, please recharge"}, "account_exhausted"),
        (400, {"msg": "账户余额为0"}, "account_exhausted"),
        (400, {"msg": "剩余次数不足"}, "account_exhausted"),
        (403, {"message": "pre-consumed quota failed, need quota: 0.2"}, "account_exhausted"),
        (400, {"message": "the balance of colours is off"}, "vendor_refused"),
        (429, {"error": {"type": "exceeded_current_quota_error"}}, "account_exhausted"),
        (429, {"error": {"type": "rate_limit_error", "message": "slow"}}, "vendor_unavailable"),
        (400, {"code": "Arrearage", "message": "Access denied"}, "account_exhausted"),
        (500, {"data": {"error": {"message": "insufficient credits"}}}, "account_exhausted"),
        (400, {"error": "Insufficient account balance, please top up"}, "account_exhausted"),
        (400, {"error": "You do not have enough credits"}, "account_exhausted"),
        (402, {"detail": {"code": "x", "message": "no"}}, "account_exhausted"),
        (400, {"message": "stop updating the prompt"}, "vendor_refused"),
        (400, {"message": "fps is over the frame rate limit"}, "vendor_refused"),
        (400, {"message": "the model cannot generate limited clips"}, "vendor_refused"),
        (200, {"code": 1, "msg": "提交成功"}, None),
        (200, {"code": 200, "error": {"code": 0, "message": "", "detail": None}}, None),
        (200, {"code": 200, "error": {"code": 0, "message": "no"}}, "vendor_refused"),
        (200, {"code": 1, "msg": "Submitted successfully!"}, None),
        (200, {"code": 1, "msg": "提交未成功"}, "vendor_refused"),
        (200, {"code": 1, "msg": "not successful"}, "vendor_refused"),
        (502, None, "server_error"),
        (504, "gateway timeout", "server_error"),
    ],
)
def test_status_and_code_together_are_classified(
    status: int, body: Any, meaning: str | None
) -> None:
    error = classify("acme", status, body)
    kinds = {"bad_response", "server_error"}
    assert (error.kind if isinstance(error, CutOff) else error and error.code) == meaning
    assert isinstance(error, CutOff) is (meaning in kinds)


@pytest.mark.parametrize(
    ("message", "duplicate"),
    [
        ("external_task_id already exists", True),
        ("external_task_id duplicated", True),
        ("Duplicate external task id", True),
        ("external_task_id has already been used", True),
        ("外部任务ID重复", True),
        ("该任务ID已提交", True),
        ("external_task_id has been used", True),
        ("external_task_id repeated", True),
        ("the quota has been used", False),
        ("Task not found by id/external id", False),
        ("the model does not exist", False),
        ("Invalid parameter value", False),
    ],
)
def test_an_existing_external_id_means_that_an_earlier_copy_was_accepted(
    message: str, duplicate: bool
) -> None:
    error = classify("kling", 400, {"code": 1201, "message": message})
    assert isinstance(error, Refused)
    assert error.duplicate is duplicate


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"code": 1303, "message": "busy"}, (1303, "busy")),
        ({"code": "1303", "message": "busy"}, (1303, "busy")),
        ({"error": {"code": "invalid_api_key", "message": "no"}}, ("invalid_api_key", "no")),
        ({"error": "no"}, (None, "no")),
        ({"code": 400, "msg": "no"}, (400, "no")),
        ({"code": 7, "error": {"message": "no"}}, (7, "no")),
        ({"errorCode": "E1", "errorMessage": "no"}, ("E1", "no")),
        ({"errors": [{"code": "E1", "message": "no"}]}, ("E1", "no")),
        ({"errors": ["no"]}, (None, "no")),
        ({"errors": {"code": "E1", "detail": "no"}}, (None, "no")),
        ({"error": {"code": "E1", "message": {"en": "no"}}}, ("E1", "no")),
        ({"message": "", "errors": {"prompt": ["no"]}}, (None, "no")),
        ({"statusCode": 400, "message": ["no"], "error": "Bad Request"}, (400, "no")),
        ({"code": -1, "data": {"msg": "no"}}, (-1, "no")),
        ({"error": {"code": 9, "message": "", "raw_message": "no"}}, (9, "no")),
        ({"failureCode": "E1", "failure": "no"}, ("E1", "no")),
        ({"base_resp": {"status_code": 9, "status_msg": "no"}}, (9, "no")),
        ({"status": 400}, (400, None)),
        ("no", (None, "no")),
        ({"detail": [{"msg": "Field required"}]}, (None, "Field required")),
        ({"detail": "Not Found"}, (None, "Not Found")),
        ({"detail": {"code": "E1", "message": "no"}}, ("E1", "no")),
        ({"code": True, "message": 5, "detail": [5]}, (None, None)),
        (["x"], (None, None)),
        (None, (None, None)),
    ],
)
def test_error_fields_are_found_in_any_envelope(body: Any, fields: Any) -> None:
    assert error_fields(body) == fields


def test_a_refusal_names_the_vendor_and_carries_its_message() -> None:
    error = classify("kling", 429, {"code": 1303, "message": "busy"}, wait=7.0)
    assert isinstance(error, Refused)
    assert (str(error), error.retry_after) == ("kling answered 429, code 1303: busy", 7.0)
