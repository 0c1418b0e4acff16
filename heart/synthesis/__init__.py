"""Synthetic patients: the CTGAN and TVAE wrapper, and quality figures of what it draws.

A package of its own: a change elsewhere in the library does not refit the generators.
"""
