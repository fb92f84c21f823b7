"""Tesla's protocol and nothing else: sign-in URL, token calls, errors sorted, regions, scopes.

Knows nothing of databases, queues, pages or settings: what it needs it is given.
"""
