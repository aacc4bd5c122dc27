"""Who may do what: keys, scopes, sessions, limits, and the one gate in front of every route."""
