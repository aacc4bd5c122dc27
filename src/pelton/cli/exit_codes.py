"""What the commands tell the shell."""

FAILED = 1
"""The answer is no: not ready, refused, or something that is needed is missing."""

WRONG_USE = 2
"""Something that the person at the keyboard can put right."""
