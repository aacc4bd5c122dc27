"""Eats records of what happened and answers questions about them."""
