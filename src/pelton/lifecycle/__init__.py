"""A model version's way into service and out of it: proven beside the old one, swapped, watched."""
