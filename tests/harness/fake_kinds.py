"""Kinds of destinations for tests of what all kinds have in common."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import urlsplit

import httpx

from orchestrator.events.destinations import (
    Connection,
    Destination,
    HttpDestination,
    Message,
    Option,
    Publication,
    Publisher,
    Target,
    post,
)
from orchestrator.foundation.errors import ConfigError


class Queue(Publisher):
    """A broker: one address may name several hosts; its library is missing if `extra` is set."""

    kind = "queue"
    example: ClassVar[str] = "queue://broker.example.com:4222/renders"
    schemes: ClassVar[tuple[str, ...]] = ("queue", "queues")
    options: ClassVar[Mapping[str, Option]] = {
        "format": Option("The form of the body.", choices=("standard", "cloudevents")),
        "maxlen": Option("Entries that are kept.", pattern="[0-9]{1,9}"),
    }
    credentials: ClassVar[Mapping[str, Option]] = {
        "username": Option("The user."),
        "password": Option("Its password."),
    }

    def check_address(self, address: str) -> None:
        """Raise `ConfigError` without a path."""
        if len(urlsplit(address).path) < 2:
            raise ConfigError(f"name a queue, as {self.example}")

    def encode(self, target: Target, message: Message) -> Publication:
        """Return the event as it is."""
        to = urlsplit(target.address).path[1:]
        return Publication(message.event_id, to, message.body, {"id": message.event_id})

    async def open(self, target: Target, tls: ssl.SSLContext) -> Connection:
        """Open nothing."""
        raise NotImplementedError


class Chat(HttpDestination):
    """A bot: a secret address, a required option and a required credential."""

    kind = "chat"
    example: ClassVar[str] = "https://chat.example.com"
    secret_address: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Option]] = {
        "room": Option("The room.", pattern="[a-z]{1,16}", required=True)
    }
    credentials: ClassVar[Mapping[str, Option]] = {
        "token": Option("The bot's token.", pattern="[a-z0-9]{1,64}", required=True),
        "secret": Option("Signs messages."),
    }

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return the event as it is, with the token in its path."""
        return post(f"{target.address}/{target.credentials['token']}", {}, message.body)

    def recognizes(self, address: str) -> bool:
        """Return whether it is the service's own server."""
        return urlsplit(address).hostname == "chat.example.com"


class Catchall(Queue):
    """A second kind with a scheme of `Queue`."""

    kind = "catchall"
    schemes: ClassVar[tuple[str, ...]] = ("queues",)
    extra: ClassVar[str] = "demo"


FAKES: Mapping[str, Destination] = {one.kind: one for one in (Queue(), Chat(), Catchall())}
