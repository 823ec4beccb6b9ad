"""Break requests on demand, as networks and gateways do."""
