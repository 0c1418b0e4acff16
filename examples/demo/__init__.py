"""The whole life cycle in some minutes, as a program that fails if any part of it does."""
