"""The life cycle of a model in some minutes, as a program that fails if any part fails."""
