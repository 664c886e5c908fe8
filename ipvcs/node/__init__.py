"""The node: the white paper's stack, a folder a chapter (draft 3, §3.1 to §3.7)."""
