"""Tools that others made, unchanged, against the real service: what works here works for whoever integrates it."""
