"""The client: knocks, and connects behind its knocks. Needs no root and none of the server's libraries.

Light to import, because ssh starts it for every connection: no dataclasses, no pathlib, no typing tricks.
"""
