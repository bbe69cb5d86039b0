"""``run --confirm``: the ruleset is on probation, and is put back unless somebody says that it may stay.

plan has what must be known to put it back; guard is the process that waits and puts it back; asking is how others speak
to it; probation is what ``run`` does with all that.
"""
