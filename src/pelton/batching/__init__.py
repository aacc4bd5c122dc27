"""Which requests share a run: line (bounded) -> window (decides) -> stack, run, split."""
