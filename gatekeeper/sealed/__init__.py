"""The sealed knock, version 1: what client and server share. docs/sealed-knock.md is its specification.

``keys`` (X25519, as WireGuard writes them), ``noise`` (Noise_KK), ``wire`` (the datagram). Light to import,
for a client loads nothing else of ours to build a knock. ``layer`` is for the Scapy shell.
"""
