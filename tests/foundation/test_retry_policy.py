"""The settings of deliveries, and what a subscriber has of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.retry_policy import RetryPolicy
from orchestrator.foundation.settings import Settings, load
from orchestrator.foundation.settings.accounts import Account
from orchestrator.foundation.settings.delivery import Delivery


def test_by_default_an_attempt_has_15_seconds_and_no_status_is_final() -> None:
    policy = Delivery().policy
    assert (policy.deadline, policy.final_statuses) == (15, frozenset())
    assert policy.schedule[:4] == (0, 5, 300, 1800)


def test_a_wait_is_a_text_with_a_unit_or_a_number_of_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = ["1s", "90", "5m", "2h", "7d", 30, 1.5]
    assert Delivery(schedule=waits).policy.schedule == (
        0, 1, 90, 300, 7200, 604_800, 30, 1.5,
    )  # fmt: skip
    monkeypatch.setenv("ORCHESTRATOR_DELIVERY__SCHEDULE", "5s,2m")
    monkeypatch.setenv("ORCHESTRATOR_DELIVERY__FINAL_STATUSES", "400,404")
    assert load().delivery.policy == RetryPolicy((0, 5, 120), 15, frozenset({400, 404}))


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ('schedule = []', "delivery.schedule"),
        (f'schedule = {["1s"] * 51}', "delivery.schedule"),
        ('schedule = "5s"', "delivery.schedule"),
        ('schedule = ["5s", "0s"]', "delivery.schedule.1: must be from 1s to 7d"),
        ('schedule = ["8d"]', "delivery.schedule.0: must be from 1s to 7d"),
        ('schedule = [0.5]', "delivery.schedule.0: must be from 1s to 7d"),
        ('schedule = [nan]', "delivery.schedule.0: must be from 1s to 7d"),
        ('schedule = [true]', "delivery.schedule.0: must be seconds, or like 5s, 5m, 2h or 1d"),
        ('schedule = ["soon"]', "delivery.schedule.0: must be seconds, or like 5s, 5m, 2h or 1d"),
        ('schedule = ["-5s"]', "delivery.schedule.0: must be seconds, or like 5s, 5m, 2h or 1d"),
        ('schedule = ["\u0665s"]', "delivery.schedule.0: must be seconds, or like 5s"),
        ("deadline = 0.5", "delivery.deadline: must be greater than or equal to 1"),
        ("deadline = 121", "delivery.deadline: must be less than or equal to 120"),
        ("final_statuses = [404, 204]", "delivery.final_statuses.1: must be greater than"),
        ("final_statuses = [600]", "delivery.final_statuses.0: must be less than"),
        ("final = [404]", "delivery.final: there is no such setting; did you mean"),
    ],
)  # fmt: skip
def test_a_setting_out_of_bounds_is_refused_by_its_name(
    tmp_path: Path, written: str, fault: str
) -> None:
    file = tmp_path / "orchestrator.toml"
    file.write_text(f"[delivery]\n{written}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert fault in str(caught.value).replace(f" ({file})", "")


def test_a_subscriber_has_its_own_of_any_of_the_three() -> None:
    service = Delivery(schedule=["9s"], final_statuses=[400]).policy
    nothing: dict[str, Any] = {"schedule": None, "deadline": None, "final_statuses": None}
    assert service.overridden(None) == service.overridden(nothing) == service
    changed = service.overridden(nothing | {"deadline": 60.0, "final_statuses": []})
    assert changed == RetryPolicy((0, 9), 60, frozenset())
    assert service.overridden(nothing | {"schedule": ["1m", 5]}).schedule == (0, 60, 5)


@pytest.mark.parametrize(
    ("given", "submit"),
    [({}, 60), ({"answer_timeout": 90}, 90), ({"submit_deadline": 20}, 20),
     ({"answer_timeout": 90, "submit_deadline": 600}, 600)],
)  # fmt: skip
def test_a_submission_has_its_own_deadline_or_that_of_every_answer(
    given: dict[str, float], submit: float
) -> None:
    account = Account.model_validate({"vendor": "kling", **given})
    assert account.submit_timeout == submit
    assert account.answer_timeout == given.get("answer_timeout", 60)


@pytest.mark.parametrize("seconds", [0, -1, 601])
def test_a_deadline_of_submissions_out_of_bounds_is_refused(seconds: float) -> None:
    account = {"vendor": "kling", "submit_deadline": seconds}
    with pytest.raises(ValueError, match="submit_deadline"):
        Settings.model_validate({"accounts": {"main": account}})
