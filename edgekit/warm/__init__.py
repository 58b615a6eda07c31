"""A process that has imported edgekit already, and forks for each command: `edgekit warm start`."""
