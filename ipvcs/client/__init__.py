"""Speaks to a running daemon. Imports no network code: a command that uses it must start fast."""
