"""Who calls: API keys, their scopes, and how often each may call."""
