"""The documentation, and the script that writes what it takes from code."""
