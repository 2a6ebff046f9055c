"""Signatures and tokens: what is derived from `secret_keys`, and Standard Webhooks."""
