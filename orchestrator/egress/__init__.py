"""The only sockets out: an HTTP client over a transport that checks every address."""
