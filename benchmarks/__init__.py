"""Figures that a command prints: `make bench-...` runs one."""
