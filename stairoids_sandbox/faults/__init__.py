"""Make requests fail on demand, as networks and gateways do."""
