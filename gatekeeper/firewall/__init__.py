"""The firewall: what is put into the kernel, as text (pure), and how it gets there."""
