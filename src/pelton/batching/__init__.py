"""Which requests share a run: admit (bounded) -> window (decides) -> stack, split."""
