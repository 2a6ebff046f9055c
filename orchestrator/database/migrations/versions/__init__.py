"""One file a revision: its number, and what it does."""
