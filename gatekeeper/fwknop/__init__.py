"""The format of fwknop's knocks (its protocol 3.0.0): reading and writing. docs/knock-formats.md describes it. Pure."""
