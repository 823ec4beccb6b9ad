"""Keep the signals, accounts, contacts and API keys of the sandbox."""
