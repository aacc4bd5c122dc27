"""Doors: they decode, call the one verb and encode."""
