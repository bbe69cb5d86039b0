"""Where grants are kept. One file for each kind of store; ``sqlite.py`` is the default."""
