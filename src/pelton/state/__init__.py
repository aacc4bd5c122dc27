"""What outlives the process: keys, routes, versions, the audit trail, exposures."""
