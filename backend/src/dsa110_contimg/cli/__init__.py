"""The `contimg` command: parse, call, print."""
