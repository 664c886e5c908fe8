"""Tests of what the interop tests stand on."""
