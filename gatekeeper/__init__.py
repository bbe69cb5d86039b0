"""gatekeeper: ports that are closed and silent to everyone, and open at a knock to whoever holds a key."""

__version__ = "0.1.0"
