"""The one verb from outside."""
