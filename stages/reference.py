"""Stage reference: what the training patients look like, and the limits of the drift check.

Real training rows and the scores of models that were fitted without them. The promise on false
alarms is checked on streams of the same patients before anything is written.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from heart import files
from heart.drift.baseline import Policy, Reference
from heart.drift.detector import fit
from heart.drift.simulation import Sample, delays
from heart.errors import UserError, run_main
from heart.subsample import subsample
from stages import params

DOUBT = 0.025  # of an exact test that the promise is kept; Wilson's interval is too narrow for few streams


def policy_of(options: params.Reference) -> Policy:
    """The policy that the parameters ask for. Raises UserError."""
    try:
        return Policy(
            tuple(options.windows),
            options.step,
            options.stream,
            options.false_alarms,
            options.bins,
            options.simulations,
            options.seed,
        )
    except ValueError as error:
        raise UserError(f"params.yaml: reference: {error}") from None


def sample_of(train: pd.DataFrame, scored: pd.DataFrame) -> Sample:
    """The training patients with their scores out of fold. Raises UserError if they differ."""
    if scored["patient_id"].tolist() != train["patient_id"].tolist():
        raise UserError(
            f"{files.OUT_OF_FOLD}: its {len(scored)} patients are not the {len(train)} of "
            f"{files.TRAIN}, in their order"
        )
    rows, _ = files.encoded(train)
    return Sample(rows, scored["probability"].to_numpy(dtype=np.float32))


def false_alarms(sample: Sample, policy: Policy, streams: int) -> dict[str, Any]:
    """The share of streams without drift that raises an alarm, with its 95 % interval (Wilson).

    The training patients stand for all patients: references of as many are drawn from them with
    replacement, and so are the streams. Raises UserError where the promise is broken beyond doubt.
    """
    rows = len(sample.rows)
    rows_to_alarm = delays(sample, sample, rows, policy, policy.stream, streams, policy.seed)
    alarms = int(np.isfinite(rows_to_alarm).sum())
    interval = binomtest(alarms, streams).proportion_ci(method="wilson")
    promise = binomtest(alarms, streams, policy.false_alarms, alternative="greater")
    if promise.pvalue < DOUBT:
        raise UserError(
            f"{alarms} of {streams} streams without drift raise an alarm, "
            f"expected a share of at most {policy.false_alarms:g} (reference.false_alarms)"
        )
    return {
        "streams": streams,
        "alarms": alarms,
        "rate": alarms / streams,
        "rate_low": float(interval.low),
        "rate_high": float(interval.high),
    }


def figures(reference: Reference, checked: dict[str, Any]) -> dict[str, Any]:
    """What metrics/reference.json says of the reference."""
    known = {column.name: sum(column.counts) for column in reference.columns}
    return {
        "rows": reference.rows,
        "missing": {name: reference.rows - n for name, n in known.items() if n < reference.rows},
        "minimum_rows": reference.policy.windows[0],
        "window_rows": reference.policy.windows[-1],
        "false_alarms": checked,
    }


def main() -> None:
    options = params.Reference.load()
    policy = policy_of(options)
    train = files.read_table(files.TRAIN)
    everybody = sample_of(train, files.read_table(files.OUT_OF_FOLD))
    used = subsample(train, options.max_rows, options.seed)
    sample = Sample(everybody.rows[used], everybody.scores[used])
    checked = false_alarms(sample, policy, options.check_streams)
    reference = fit(sample.rows, sample.scores, policy)
    with files.replacing(files.REFERENCE) as part:
        part.write_text(reference.to_json())
    counts = {"real_rows": len(train), "real_rows_used": len(sample.rows)}
    files.write_metrics("reference", figures(reference, checked) | counts)


if __name__ == "__main__":
    run_main(main)
