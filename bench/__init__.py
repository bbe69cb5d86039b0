"""The benchmark: gatekeeper and its peers, side by side, on the same work (`scripts/bench`)."""
