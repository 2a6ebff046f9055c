"""The dialects, one file a vendor: its tables and its peculiarities. The folder is the registry."""
