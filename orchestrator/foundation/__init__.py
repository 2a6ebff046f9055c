"""The lowest layer: errors, states, time, ids, JSON, signatures, settings."""
