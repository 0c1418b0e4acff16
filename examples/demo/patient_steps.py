"""The steps in which patients arrive: drift, performance without outcomes, outcomes, and what a promotion gained."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from examples.demo.clients import Answers
from examples.demo.context import CLINIC, IMPORT, Running
from examples.demo.patients import SEED, SEEN, SHARE_ILL, SHIFT, UNSEEN, Patients
from examples.demo.processes import expect
from heart import files
from heart.drift.baseline import Reference
from heart.drift.snapshot import take_snapshot
from heart.ml.comparison import paired
from heart.ml.curves import calibration
from heart.ml.label_free import FIGURES
from heart.ml.onnx_export import predict
from heart.ml.outcome_check import check_outcomes, expected_auc
from heart.ml.scores import all_scores, roc_auc

NORMAL, OTHER, NEW = 200, 400, 500  # patients; a drift check has at most 400
RECORDED, SHUFFLED = 60, 120  # outcomes
NAMES = {"accuracy": "accuracy", "brier": "Brier score", "roc_auc": "ROC AUC"}
BINS = 6  # of the calibration
TRY_AGAIN = 75  # exit code of a retraining that has too few outcomes


@dataclass(frozen=True)
class Seen:
    """Patients whom the service has scored, with its answers."""

    patients: Patients
    answers: Answers


@dataclass(frozen=True)
class Bootstrap:
    """How the paired interval is drawn."""

    bootstrap: int = 2000
    seed: int = SEED
    confidence: float = 0.95


def normal_patients(running: Running) -> Seen:
    """Patients like those of the training raise no alarm."""
    patients = running.hospitals.similar(NORMAL)
    answers = running.service.predict(patients)
    report = running.service.check_drift()
    name, largest = max(report["features"].items(), key=lambda item: float(item[1]["ratio"]))
    expect(not report["drifted"], f"a false alarm: {largest['summary']}")
    running.record.say(
        f"{NORMAL} simulated patients: no drift; the largest test statistic, of {_plain(name)}, is "
        f"{largest['ratio']:.2f} of its threshold"
    )
    return Seen(patients, answers)


def other_hospital(running: Running, normal: Seen) -> tuple[Seen, dict[str, float]]:
    """Patients of another hospital until the alarm, and some more; also the features of the alarm by ratio."""
    record = running.record
    training = running.demo.metrics("split")["train"]
    share = training["presence"] / training["rows"]
    record.say(
        f"simulated: {percent(SHARE_ILL)} ill instead of {percent(share)} in training; {SHIFT}"
    )
    patients = running.hospitals.other(OTHER, SEEN)
    answered: list[Answers] = []
    report: Any = {"drifted": False}
    for ten in patients.tens():
        answered.append(running.service.predict(ten))
        if not report["drifted"]:
            report = running.service.check_drift()
            detected_after = 10 * len(answered)
    expect(report["drifted"], f"no drift is detected after {OTHER} patients of another hospital")
    worst = max(report["features"].values(), key=lambda feature: float(feature["ratio"]))
    record.say(f"drift is detected after {detected_after} patients: {worst['summary']}")
    seen = Seen(patients, _joined(answered))
    curve = _evidence(running, [normal, seen])
    record.figures["drift"] = {
        "normal": NORMAL, "detected_after": detected_after, "features": list(_drifted(report)), "curve": curve,
        "summary": worst["summary"],
    }  # fmt: skip
    return seen, _drifted(running.service.check_drift())


def _drifted(report: Any) -> dict[str, float]:
    features = report["features"].items()
    return {name: feature["ratio"] for name, feature in features if feature["drifted"]}


def _joined(answers: list[Answers]) -> Answers:
    ids = tuple(key for each in answers for key in each.ids)
    return Answers(np.concatenate([each.risks for each in answers]), ids, answers[0].version)


def _evidence(running: Running, parts: list[Seen]) -> list[list[float]]:
    """The largest ratio of all features after each ten patients, by the service's own drift check."""
    reference = Reference.from_json((running.demo.folder / files.REFERENCE).read_bytes())
    rows = np.vstack([part.patients.rows for part in parts])
    scores = np.concatenate([part.answers.risks for part in parts]).astype(np.float32)
    curve = []
    for end in range(reference.policy.windows[0], len(rows) + 1, reference.policy.step):
        start = max(0, end - reference.policy.patients)
        report = take_snapshot("1", rows[start:end], scores[start:end], reference).report
        curve.append([end, max(finding.ratio for finding in report.features.values())])
    return curve


def without_outcomes(running: Running, seen: Seen) -> None:
    """The performance that the risks imply, beside the one that only the simulation knows."""
    model = running.service.get("/model")
    estimated = model["estimated"]
    outcome, risks = seen.patients.outcome, seen.answers.risks
    scores = all_scores(outcome, risks, np.ones((1, len(risks))), model["threshold"], BINS)
    rows = {}
    for name in FIGURES:
        rows[name] = {**estimated[name], "true": float(scores[name][0])}
        running.record.say(
            f"{NAMES[name]:<11} estimated {rows[name]['value']:.2f} "
            f"({rows[name]['low']:.2f} to {rows[name]['high']:.2f}), true {rows[name]['true']:.2f}"
        )
    running.record.say(
        f"the risks imply that {percent(risks.mean())} of the {len(risks)} patients are ill, {percent(outcome.mean())} "
        "are: nothing in the measurements shows that"
    )
    running.record.figures["estimate"] = {"patients": estimated["patients"], "scores": rows}


def outcomes(running: Running, seen: Seen) -> None:
    """Outcomes in random order are quarantined and withdrawn; right ones agree with the measurements."""
    record, service = running.record, running.service
    shuffled = np.random.default_rng(SEED).permutation(seen.patients.outcome[:SHUFFLED])
    service.record(seen.answers.ids[:SHUFFLED], shuffled, IMPORT)
    [*_, line] = running.demo.run("shuffled", "monitoring.retraining.run", code=TRY_AGAIN)
    expect(f"{SHUFFLED} outcomes are quarantined" in line, f"no quarantine: {line}")
    wrong = _agreement(seen.answers.risks[:SHUFFLED], shuffled)
    record.say(
        f"{SHUFFLED} outcomes in random order, sent with the token {IMPORT}: ROC AUC {wrong['auc']:.2f}, "
        f"about {wrong['expected']:.2f} expected: quarantined, nothing is learned from them"
    )
    record.say(f"{service.withdraw(IMPORT)} outcomes of {IMPORT} are withdrawn")
    right = seen.patients.outcome[:RECORDED]
    service.record(seen.answers.ids[:RECORDED], right, CLINIC)
    agreement = _agreement(seen.answers.risks[:RECORDED], right)
    expect(not agreement["reasons"], f"right outcomes are quarantined: {agreement['reasons']}")
    record.say(
        f"{RECORDED} outcomes as they are, sent with the token {CLINIC}: ROC AUC {agreement['auc']:.2f}, "
        f"about {agreement['expected']:.2f} expected: they agree with the measurements"
    )
    check = service.get("/model")["estimate_check"]
    verdict = "contradict" if check["contradicted"] else "do not contradict"
    record.say(
        f"they {verdict} the estimate: Brier score {check['brier']:.2f} on them, "
        f"{check['expected_brier']:.2f} implied; the evidence is {check['evidence_ratio']:.1f} times the threshold"
    )
    record.figures["outcomes"] = {"shuffled": wrong, "recorded": agreement, "estimate_check": check}


def _agreement(risks: Any, outcome: Any) -> dict[str, Any]:
    """The ROC AUC of outcomes, the one that the risks imply, and why the outcome check would not take them."""
    check = check_outcomes(risks, outcome, {})
    return {
        "outcomes": len(outcome),
        "auc": roc_auc(outcome, risks),
        "expected": expected_auc(risks),
        "reasons": [finding.reason for finding in check.findings],
    }


def fresh_patients(running: Running) -> None:
    """Both versions on patients of the other hospital whom none has seen."""
    record = running.record
    patients = running.hospitals.other(NEW, UNSEEN)
    answers = running.service.predict(patients)
    expect(answers.version == "2", f"version {answers.version} answers, expected 2")
    before = predict(running.first_model, patients.rows).astype(float)
    scores = paired(patients.outcome, answers.risks, before, Bootstrap())
    record.say(f"{NEW} simulated patients of that hospital whom no version has seen:")
    for name, f in scores.items():
        record.say(
            f"{NAMES[name]:<11} version 1 {f['champion']:.3f}, version 2 {f['challenger']:.3f}: "
            f"{f['difference']:+.3f} (95 % paired interval {f['low']:+.3f} to {f['high']:+.3f})"
        )
    record.figures["fresh"] = {
        "patients": NEW,
        "scores": scores,
        "calibration": {
            version: calibration(patients.outcome, risks, BINS).to_dict("records")
            for version, risks in (("1", before), ("2", answers.risks))
        },
    }
    high = scores["brier"]["high"]
    expect(
        high is not None and high < 0,
        "version 2 is not better on patients whom no version has seen",
    )


def percent(share: float) -> str:
    """A share as a text."""
    return f"{100 * share:.0f} %"


def _plain(name: str) -> str:
    return name.replace("_", " ")
