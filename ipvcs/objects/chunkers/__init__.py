"""Chunkers: where a file is cut into blocks."""
