"""Keep signals, accounts and contacts of the sandbox."""
