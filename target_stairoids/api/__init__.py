"""Talk HTTP to the Stairoids API: client, rate limiter, retries, worker threads."""
