"""What ``gatekeeper run --capture`` records: packets that were refused, in files that tcpdump and Wireshark read."""
