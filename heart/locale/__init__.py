"""Texts for people in English and Indonesian, and numbers as each language writes them."""
