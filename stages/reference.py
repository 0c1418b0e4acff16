"""Stage reference: the drift baseline of the training patients, with the limits of the drift check.

It uses real training rows and their out-of-fold scores. The rate of false alarms is verified on streams of
the same patients before the baseline is written.
"""

from typing import Any

import numpy as np
import pandas as pd
from joblib import cpu_count
from scipy.stats import binomtest

from heart import files
from heart.drift.baseline import Policy, Reference
from heart.drift.detector import fit
from heart.drift.simulation import Sample, delays
from heart.errors import UserError, run_main
from heart.subsample import subsample
from stages import params

# Of an exact test of the rate of false alarms; with few streams Wilson's interval is too narrow.
SIGNIFICANCE = 0.025


def policy_of(options: params.Reference) -> Policy:
    """The policy of the parameters. Raises UserError."""
    try:
        return Policy(
            tuple(options.windows),
            options.step,
            options.stream,
            options.false_alarms,
            options.bins,
            options.simulations,
            options.seed,
            options.earlier,
        )
    except ValueError as error:
        raise UserError(f"params.yaml: reference: {error}") from None


def sample_of(train: pd.DataFrame, scored: pd.DataFrame) -> Sample:
    """The training patients with their out-of-fold scores. Raises UserError if the patients differ."""
    if scored["patient_id"].tolist() != train["patient_id"].tolist():
        raise UserError(
            f"{files.OUT_OF_FOLD}: its {len(scored)} patients are not the {len(train)} of "
            f"{files.TRAIN} in the same order: run `dvc repro`"
        )
    rows, _ = files.encoded(train)
    return Sample(rows, scored["probability"].to_numpy(dtype=np.float32))


def false_alarms(sample: Sample, policy: Policy, streams: int, workers: int = 1) -> dict[str, Any]:
    """The share of streams without drift that raises an alarm, with its 95 % interval (Wilson).

    References and streams are drawn from the training patients with replacement. Raises UserError if
    the share is significantly larger than `Policy.false_alarms`.
    """
    rows = len(sample.rows)
    rows_to_alarm = delays(
        sample, sample, rows, policy, policy.stream, streams, policy.seed, workers=workers
    )
    alarms = int(np.isfinite(rows_to_alarm).sum())
    interval = binomtest(alarms, streams).proportion_ci(method="wilson")
    test = binomtest(alarms, streams, policy.false_alarms, alternative="greater")
    if test.pvalue < SIGNIFICANCE:
        raise UserError(
            f"{alarms} of {streams} streams without drift raise an alarm, "
            f"expected a share of at most {policy.false_alarms:g} (reference.false_alarms of params.yaml)"
        )
    return {
        "streams": streams,
        "alarms": alarms,
        "rate": alarms / streams,
        "rate_low": float(interval.low),
        "rate_high": float(interval.high),
    }


def figures(reference: Reference, alarms: dict[str, Any]) -> dict[str, Any]:
    """The figures of metrics/reference.json."""
    known = {column.name: sum(column.counts) for column in reference.columns}
    return {
        "rows": reference.rows,
        "missing": {name: reference.rows - n for name, n in known.items() if n < reference.rows},
        "minimum_rows": reference.policy.windows[0],
        "window_rows": reference.policy.windows[-1],
        "false_alarms": alarms,
    }


def main() -> None:
    options = params.Reference.load()
    policy = policy_of(options)
    train = files.read_table(files.TRAIN)
    complete = sample_of(train, files.read_table(files.OUT_OF_FOLD))
    which = subsample(train, options.max_rows, options.seed)
    sample = Sample(complete.rows[which], complete.scores[which])
    # joblib counts the processors of the container, os.cpu_count those of its machine.
    alarms = false_alarms(sample, policy, options.check_streams, cpu_count())
    reference = fit(sample.rows, sample.scores, policy)
    with files.replacing(files.REFERENCE) as part:
        part.write_text(reference.to_json())
    counts = {"real_rows": len(train), "real_rows_used": len(sample.rows)}
    files.write_metrics("reference", figures(reference, alarms) | counts)


if __name__ == "__main__":
    run_main(main)
