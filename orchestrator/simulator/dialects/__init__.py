"""One file a vendor: its endpoints, bodies, ids and errors, read from its document alone."""
