"""Bytes to messages and back: no sockets, no clocks, no awaits."""
