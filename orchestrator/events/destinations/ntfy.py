"""ntfy: a push notification to the subscribers of a topic.

https://docs.ntfy.sh/publish/#publish-as-json: 4096 bytes; a longer text would become a file. Texts
have no markup. A topic needs no account, so its name is a secret.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, ClassVar

import httpx

from orchestrator.events.destinations import HttpDestination, Message, Option, Target
from orchestrator.events.http_kinds import post_json
from orchestrator.events.notification import Notification, Severity, notification
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.markup import cut, fitting

#: Bytes of a message, and characters of a title.
_CAP, _TITLE_CAP = 4096, 200
_URL_CAP = 2000
#: By severity: the priority, and the short code of the emoji before the title.
_LOOKS = {
    Severity.GOOD: (3, "white_check_mark"),
    Severity.INFO: (2, "information_source"),
    Severity.WARNING: (4, "warning"),
    Severity.BAD: (4, "x"),
}
_TOPIC = r"[-_A-Za-z0-9]{1,64}"


class Ntfy(HttpDestination):
    """A topic of ntfy.sh or of a server of one's own."""

    kind = "ntfy"
    example: ClassVar[str] = "https://ntfy.sh/my-topic"
    secret_address: ClassVar[bool] = True
    links_jobs: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Option]] = {
        "topic": Option("The topic, if it is not the last part of the address.", pattern=_TOPIC),
        "title": Option(
            "A title of your own. The event's then begins the text.",
            pattern=r"[^\x00-\x1f\x7f]{1,200}",
        ),
        "priority": Option("Of every message: 1 (min) to 5 (max).", pattern=r"[1-5]"),
    }
    credentials: ClassVar[Mapping[str, Option]] = {
        "token": Option("An access token.", pattern=r"[!-~]{1,256}"),
        "username": Option(
            "A user name, in place of a token.", pattern=r"[^:\x00-\x1f\x7f]{1,128}"
        ),
        "password": Option("The password of the user."),
    }

    def request(self, target: Target, message: Message) -> httpx.Request:
        """Return the POST of a notification to the server's root, which names the topic."""
        url = httpx.URL(target.address)
        root, _, last = url.path.rstrip("/").rpartition("/")
        topic = target.options.get("topic")
        server = url.copy_with(path=f"{url.path.rstrip('/') if topic else root}/", query=None)
        body = {"topic": topic or last, **_notice(notification(message), target.options)}
        return post_json(str(server), body, _authorization(target.credentials))

    def recognizes(self, address: str) -> bool:
        """Return whether it is a topic of ntfy.sh."""
        return address.startswith("https://ntfy.sh/")

    def check_address(self, address: str) -> None:
        """Raise `ConfigError` for an address with a query, which is not sent."""
        if httpx.URL(address).query:
            raise ConfigError("give the topic's address without a query, a token in `credentials`")


def _authorization(credentials: Mapping[str, str]) -> Mapping[str, str]:
    if token := credentials.get("token"):
        return {"authorization": f"Bearer {token}"}
    if name := credentials.get("username"):
        pair = f"{name}:{credentials.get('password', '')}".encode()
        return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}


def _notice(note: Notification, options: Mapping[str, str]) -> Mapping[str, Any]:
    priority, emoji = _LOOKS[note.severity]
    own, links = options.get("title"), note.links_within(_URL_CAP)
    notice: dict[str, Any] = {
        "title": cut(own or note.title, _TITLE_CAP),
        "message": fitting(_lines(note, with_title=own is not None), _CAP) or note.title,
        "priority": int(options.get("priority", priority)),
        "tags": [emoji],
        "actions": [{"action": "view", "label": label, "url": url} for label, url in links],
    }
    if links:
        notice["click"] = links[0].url
    if picture := note.image_within(_URL_CAP):
        notice["attach"] = picture
    return notice


def _lines(note: Notification, *, with_title: bool) -> list[str]:
    """Return the lines of a message, the most important ones first."""
    lines = [
        note.title if with_title else "",
        note.summary,
        note.meaning,
        f"{note.error_code}: {note.error}" if note.error_code else "",
        f"What to do: {note.next_step}" if note.next_step else "",
        *(f"{fact.label}: {fact.value}" for fact in note.facts),
        note.about,
    ]
    return [line for line in lines if line]
