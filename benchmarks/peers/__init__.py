"""One script a peer, each run in its own environment (`benchmarks/peer.py`), and what to install there."""
