"""Show the sandbox in a browser."""
