"""Score tables of any size with the champion: `python -m serve.batch IN OUT` (docs/batch_scoring.md).

A table is cut into parts (`tables`); a part is read, encoded, scored and written by one function
(`work`), whichever engine calls it; `run` keeps account of what is done, so that a killed run goes
on and the output is whole or absent.
"""
