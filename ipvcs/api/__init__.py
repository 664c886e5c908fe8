"""The HTTP side of a daemon: the Kubo-compatible RPC on a Unix socket and, when configured, on loopback TCP."""
