"""Programs of the administrator's that are run when a grant begins or ends (``on_open`` and ``on_close``)."""
