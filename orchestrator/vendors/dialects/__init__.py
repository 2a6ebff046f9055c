"""One file a vendor: its tables and what is particular to its dialect. The folder is the registry."""
