"""`client.accounts`: configured vendor accounts and their state."""

from __future__ import annotations

from orchestrator.client.pages import AsyncPages, dual_list
from orchestrator.client.requests import get, post
from orchestrator.client.sync_async import ModeT, Resource, dual
from orchestrator.schemas import Account, AccountCheck, AccountHistory, Page


class Accounts(Resource[ModeT]):
    """Configured vendor accounts and their state, without their keys."""

    @dual
    async def get(self, name: str) -> Account:
        """Return an account."""
        return await self._call(Account, get("accounts", name))

    @dual_list
    def list(self, *, page_size: int = 100) -> AsyncPages[Account]:
        """Return all accounts, by name.

        >>> {account.name: account.in_flight for account in client.accounts.list()}
        {'main': 3}
        """
        return AsyncPages(self._connection, Page[Account], get("accounts", limit=page_size))

    @dual
    async def history(self, name: str, *, hours: int = 24) -> AccountHistory:
        """Return the jobs of an account over time, and how long the newest ones took.

        >>> client.accounts.history("main").latency.p95
        131.0
        """
        return await self._call(AccountHistory, get("accounts", name, "history", hours=hours))

    @dual
    async def check(self, name: str) -> AccountCheck:
        """Send the vendor a harmless request: is it reachable, are the credentials valid?"""
        return await self._call(AccountCheck, post("accounts", name, "check"))
