"""The engine: stages that meet only in committed rows, and the loops and ticks that drive them."""
