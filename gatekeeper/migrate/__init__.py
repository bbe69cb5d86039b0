"""Reads the configuration of fwknopd or knockd, and writes rules.yaml with the same effect, and what has no equal."""
