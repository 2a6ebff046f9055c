"""Unmodified third-party clients and libraries against the real service."""
