"""Decides whether a request may hold any Python object: who signed it, for what, and when."""
