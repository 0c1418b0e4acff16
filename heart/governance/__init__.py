"""Machine-readable documents of a version: model cards, checklists, data set and lineage.

Each field is a line of a YAML table: a fixed sentence, or a text with placeholders for the pipeline's figures.
"""
