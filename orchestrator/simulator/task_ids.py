"""Ids of tasks and videos, drawn in the vendors' forms."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TaskIds:
    """The ids of one render. Behind a gateway, Kling itself sends the pushes, with its own id."""

    task: str
    push: str
    video: str


def digits(rng: random.Random, length: int, prefix: str = "") -> str:
    """Return a decimal id of `length` characters that begins with `prefix`."""
    return prefix + "".join(rng.choices(string.digits, k=length - len(prefix)))


def alphanumeric(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(string.ascii_letters + string.digits, k=length))


def gateway_ids(task: str, rng: random.Random) -> TaskIds:
    """Return a gateway's own task id with the ids of the Kling task behind it."""
    return TaskIds(task, digits(rng, 18, "86"), digits(rng, 18, "86"))


def kling_ids(rng: random.Random) -> TaskIds:
    """Return ids of 18 digits; the task id is the same in responses and pushes."""
    task = digits(rng, 18, "90")
    return TaskIds(task, task, digits(rng, 18, "90"))
