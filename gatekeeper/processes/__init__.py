"""The processes of ``gatekeeper run``: a supervisor, which forks the keeper and the worker, and what they say.

The worker looks at packets, and can do nothing else. The keeper has the store and the kernel's ruleset. The supervisor
does nothing but replace what died.
"""
