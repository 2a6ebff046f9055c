"""The floor of the house: errors, states, time, ids, JSON, signatures, settings. It imports nothing above it."""
