"""Authentication: credentials, tokens, API keys, sessions, revocations and limits on failed attempts."""
