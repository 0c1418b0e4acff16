"""The stages of the pipeline: `python -m stages.NAME` runs one, `dvc repro` runs what is out of date."""
