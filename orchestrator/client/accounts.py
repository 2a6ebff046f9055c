"""`client.accounts`: configured vendors, and how they are doing."""

from __future__ import annotations

from orchestrator.client.pages import Listing, listed
from orchestrator.client.requests import Request, path
from orchestrator.client.responses import read
from orchestrator.client.sync_async import FaceT, Resource, offered
from orchestrator.schemas import Account, AccountCheck, Page


class Accounts(Resource[FaceT]):
    """Configured vendors and how they are doing; never their keys."""

    @offered
    async def get(self, name: str) -> Account:
        """Return an account."""
        return read(Account, await self._wire.call(Request("GET", path("accounts", name))))

    @listed
    def list(self, *, page_size: int = 100) -> Listing[Account]:
        """Return all accounts, by name.

        >>> {account.name: account.in_flight for account in client.accounts.list()}
        {'main': 3}
        """
        return Listing(
            self._wire, Page[Account], Request("GET", path("accounts"), query={"limit": page_size})
        )

    @offered
    async def check(self, name: str) -> AccountCheck:
        """Ask the vendor something harmless now: is it there, and does it take the account's credentials?"""
        return read(
            AccountCheck, await self._wire.call(Request("POST", path("accounts", name, "check")))
        )
