"""The engine: stages that meet only in committed rows, the loops that drive them, and their clock."""
