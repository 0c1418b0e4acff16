"""One script and one file of requirements for each peer, which has its own environment (`benchmarks/peer.py`)."""
