"""The decisions of alibi-detect, with its defaults (`windows.py` describes its input)."""

from typing import Any

from alibi_detect.cd import TabularDrift

from benchmarks.peers.windows import ignore_warnings, print_results


def fit(reference: Any, continuous: list[int], _window: int) -> TabularDrift:
    """Kolmogorov-Smirnov and chi-squared tests of columns, at .05 with Bonferroni's correction."""
    categories = [column for column in range(reference.shape[1]) if column not in continuous]
    return TabularDrift(reference, categories_per_feature=dict.fromkeys(categories))


def alarms(detector: TabularDrift, window: Any) -> dict[str, list[bool]]:
    """Whether any column differs."""
    return {"alibi-detect, Bonferroni .05": [bool(detector.predict(window)["data"]["is_drift"])]}


if __name__ == "__main__":
    ignore_warnings()
    print_results(lambda rows, _: rows, fit, alarms)
