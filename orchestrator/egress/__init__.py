"""The only sockets out: an HTTP client with deadlines and caps over a transport that checks every address."""
