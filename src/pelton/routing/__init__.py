"""Which version answers a request: names, policies, units; values in, a choice out."""
