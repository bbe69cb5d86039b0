"""The processes of ``gatekeeper run``: a supervisor, which forks guardian, keeper and worker; and what they say.

The worker looks at packets, and can do nothing else. The keeper has the store and the grants, the guardian the ruleset.
The supervisor does nothing but replace what died.
"""
