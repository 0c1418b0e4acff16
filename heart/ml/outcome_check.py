"""Whether recorded outcomes agree with their patients' measurements, before anything is learned from them.

Wrong outcomes have a signature: the ranks of the model's risks do not fit them. A different hospital has a milder
one, since a disease shows itself in the same measurements. So the ROC AUC of the champion on the outcomes is compared
with what it should be:

- The expected AUC is simulated from the champion's own risks: of patients with risks of 10 and 90 % the ranks are
  nearly always right, of patients with risks of 40 and 60 % (say, since tests are missing) often not. At hospitals
  that nobody trained on, it has been within its own error of the real one.
- Honest outcomes: an AUC around the expected one, minus TRANSFER_LOSS, with the standard deviation TRANSFER between
  hospitals and the error of the sample.
- Outcomes without information, such as shuffled ones: an AUC around 0.5.

INVERTED is an AUC significantly below 0.5, UNINFORMATIVE a likelihood at least 10 times as high without information
as for honest outcomes, CONTRADICTED an AUC too far below the expected one, as if a part of the outcomes were wrong. If
the two likelihoods differ by less than a factor of 10, the outcomes are not quarantined, but say too little about
single patients: only how many are ill may be learned from them (`intercept_only`). That is the usual state of 60
outcomes of which 4 are healthy.

All of it is done for the whole and for subsets, such as the outcomes of one sender or one hour, with the error of
the whole divided by the number of subsets. The share of ill patients in a subset is compared with the others too:
the champion's log odds, shifted so that they fit the others, may miss it by SUBSETS, but not by more.

Example: 60 outcomes of which 28 are ill, an expected AUC of 0.90 and an observed one of 0.55. The standard error
without information is 0.075. A difference of 0.05 from 0.5 is usual for shuffled outcomes; one of 0.33 from 0.88 is
five standard deviations for honest ones. They are quarantined. Errors of an AUC: Hanley and McNeil 1982, "The meaning
and use of the area under a receiver operating characteristic curve"; without information that of the rank-sum test.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import norm

from heart.ml.scores import Array, weighted_roc_auc
from heart.ml.validation import fit, log_odds

Mask = npt.NDArray[np.bool_]

INVERTED, UNINFORMATIVE, CONTRADICTED = "inverted", "uninformative", "contradicted"
ALL = "all"

TRANSFER, TRANSFER_LOSS = (
    0.05,
    0.02,
)  # of the AUC at another hospital: standard deviation, mean loss
SUBSETS = 1.5  # of log odds: by how much subsets, such as two clinics, may differ in the share of ill patients
FACTOR = 10.0  # of the two likelihoods, from which on one of them is decided for
ERROR = 0.01  # probability with which honest outcomes are contradicted or inverted
CLASS_PATIENTS = 3  # of each outcome: fewer have no usable AUC
DRAWS = 400  # simulated outcomes for the expected AUC


@dataclass(frozen=True)
class Finding:
    """Why outcomes of a subset are quarantined: their AUC and number of ill patients beside the expected ones.

    `evidence` is a p-value for INVERTED and CONTRADICTED, and for UNINFORMATIVE the likelihood of honest outcomes
    relative to that of outcomes without information.
    """

    subset: str
    reason: str
    patients: int
    with_disease: int
    expected_with_disease: float
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    expected_auc: float
    evidence: float


@dataclass(frozen=True)
class OutcomeCheck:
    """The result: what was found, which outcomes [n] are quarantined, and whether only their share may be used."""

    findings: tuple[Finding, ...]
    quarantined: Mask
    intercept_only: bool


def check_outcomes(
    risk: Array, outcome: Array, subsets: Mapping[str, Mask], seed: int = 0
) -> OutcomeCheck:
    """Check outcomes 0 or 1 [n] of patients with these risks by the champion [n].

    `subsets` are named parts of them. Those that fail are quarantined, and if the rest fails together, all are.
    """
    outcome = outcome.astype(float)
    parts = {name: rows for name, rows in subsets.items() if 0 < rows.sum() < len(outcome)}
    error = ERROR / max(len(parts), 1)
    findings: list[Finding] = []
    left = np.ones(len(outcome), dtype=bool)
    # The clearest first: the others are then checked without its outcomes, which may be in them too.
    while finding := _clearest(parts, left, risk, outcome, error, seed):
        findings.append(finding)
        left &= ~parts[finding.subset]
    whole = _finding(ALL, risk, outcome, np.ones_like(left), ERROR, seed)
    if whole and 2 * left.sum() < len(left):
        # Wrong everywhere, not only in the parts in which it is clearest.
        findings, left = [whole], np.zeros_like(left)
    elif rest := _finding(ALL, risk, outcome, left, ERROR, seed):
        findings.append(rest)
        left = np.zeros_like(left)
    undecided = _likelihood_ratio(risk, outcome, left, seed) < FACTOR
    return OutcomeCheck(tuple(findings), ~left, undecided)


def _clearest(
    parts: Mapping[str, Mask], left: Mask, risk: Array, outcome: Array, error: float, seed: int
) -> Finding | None:
    """The finding that misses what was expected by most, of the parts of the outcomes that are left.

    A part that holds wrong outcomes only misses it by more than one that holds some of them.
    """
    findings = [
        _finding(name, risk, outcome, rows & left, error, seed)
        or _out_of_line(name, risk, outcome, rows & left, left & ~rows, error, seed)
        for name, rows in parts.items()
    ]
    return max((f for f in findings if f), key=_missed, default=None)


def _missed(finding: Finding) -> float:
    """By how much a part misses the expected AUC, or the expected share of ill patients."""
    auc = 0.0 if finding.auc is None else finding.expected_auc - finding.auc
    share = abs(finding.with_disease - finding.expected_with_disease) / finding.patients
    return max(auc, share)


def _finding(
    name: str, risk: Array, outcome: Array, rows: Mask, error: float, seed: int
) -> Finding | None:
    """The reason to quarantine a part of the outcomes, if there is one."""
    ill, healthy = _classes(outcome[rows])
    if min(ill, healthy) < CLASS_PATIENTS:
        return None
    auc, expected = _auc(outcome[rows], risk[rows]), expected_auc(risk[rows], seed)
    no_information = np.sqrt((ill + healthy + 1) / (12 * ill * healthy))
    honest = np.hypot(TRANSFER, auc_error(expected, ill, healthy))
    inverted = float(norm.cdf((auc - 0.5) / no_information))
    contradicted = float(norm.cdf((auc - (expected - TRANSFER_LOSS)) / honest))
    ratio = _likelihood_ratio(risk, outcome, rows, seed)
    if inverted < error:
        reason, evidence = INVERTED, inverted
    elif ratio < 1 / FACTOR * error / ERROR:
        reason, evidence = UNINFORMATIVE, ratio
    elif contradicted < error:
        reason, evidence = CONTRADICTED, contradicted
    else:
        return None
    return _described(name, reason, risk, outcome, rows, evidence, seed)


def _out_of_line(
    name: str, risk: Array, outcome: Array, rows: Mask, others: Mask, error: float, seed: int
) -> Finding | None:
    """Whether a part has far more or far fewer ill patients than the others and the champion's risks explain."""
    if not rows.any() or not 0 < outcome[others].sum() < others.sum():
        return None
    z = log_odds(risk)
    shift = float(fit(outcome[others], z[others], 1).coefficients[0])
    ill, p_value = outcome[rows].sum(), 1.0
    for side in (-1, 1):
        p = expit(z[rows] + shift + side * SUBSETS)
        missed = side * (ill - p.sum()) - 0.5  # with the continuity correction
        p_value = min(p_value, float(norm.sf(missed / np.sqrt((p * (1 - p)).sum()))))
    if p_value >= error / 2:
        return None
    expected = float(expit(z[rows] + shift).sum())
    finding = _described(name, CONTRADICTED, risk, outcome, rows, p_value, seed)
    return replace(finding, expected_with_disease=expected)


def _described(
    name: str, reason: str, risk: Array, outcome: Array, rows: Mask, evidence: float, seed: int
) -> Finding:
    ill, healthy = _classes(outcome[rows])
    auc = low = high = None
    if ill and healthy:
        auc = _auc(outcome[rows], risk[rows])
        margin = 1.959964 * auc_error(auc, ill, healthy)
        low, high = max(auc - margin, 0.0), min(auc + margin, 1.0)
    expected = expected_auc(risk[rows], seed)
    ill_expected = float(risk[rows].sum())
    return Finding(
        name, reason, ill + healthy, ill, ill_expected, auc, low, high, expected, evidence
    )


def _likelihood_ratio(risk: Array, outcome: Array, rows: Mask, seed: int) -> float:
    """The likelihood of the AUC for honest outcomes, relative to that for outcomes without information.

    1, which decides nothing, for too few outcomes of one kind.
    """
    ill, healthy = _classes(outcome[rows])
    if min(ill, healthy) < CLASS_PATIENTS:
        return 1.0
    auc, expected = _auc(outcome[rows], risk[rows]), expected_auc(risk[rows], seed)
    honest = np.hypot(TRANSFER, auc_error(expected, ill, healthy))
    no_information = np.sqrt((ill + healthy + 1) / (12 * ill * healthy))
    difference = norm.logpdf(auc, expected - TRANSFER_LOSS, honest) - norm.logpdf(
        auc, 0.5, no_information
    )
    return float(np.exp(np.clip(difference, -700, 700)))


def expected_auc(risk: Array, seed: int = 0) -> float:
    """The mean AUC of outcomes that are drawn from the risks [n]; 0.5 if all draws have one outcome only."""
    random = np.random.default_rng(seed)
    order = np.argsort(risk, kind="stable")
    drawn = random.random((DRAWS, len(risk))) < risk[order]
    ill = drawn.sum(axis=1)
    usable = (ill > 0) & (ill < len(risk))
    if not usable.any():
        return 0.5
    ranks = np.arange(
        1, len(risk) + 1
    )  # of distinct risks; ties are rare and average out over the draws
    sums = drawn[usable] @ ranks
    n1, n0 = ill[usable], len(risk) - ill[usable]
    return float(((sums - n1 * (n1 + 1) / 2) / (n1 * n0)).mean())


def auc_error(auc: float, ill: int, healthy: int) -> float:
    """The standard error of an AUC (Hanley and McNeil 1982)."""
    area = min(max(auc, 0.5), 0.995)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (ill - 1) * (q1 - area**2) + (healthy - 1) * (q2 - area**2)
    return float(np.sqrt(spread / (ill * healthy)))


def _auc(outcome: Array, risk: Array) -> float:
    return float(weighted_roc_auc(outcome, risk, np.ones((1, len(outcome))))[0])


def _classes(outcome: Array) -> tuple[int, int]:
    ill = int(outcome.sum())
    return ill, len(outcome) - ill
