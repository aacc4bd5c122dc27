"""The one verb: finds the model, checks the inputs, runs it."""
