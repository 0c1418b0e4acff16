"""The steps in which the model changes: the first version, a retraining, the change in the service, a rollback."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from examples.demo.context import Demo, Running
from examples.demo.patient_steps import NEW, percent
from examples.demo.patients import SEEN
from examples.demo.processes import expect, wait
from examples.demo.project import copy, fewer_epochs
from heart.ml.updating import KEEP, LIKELIHOOD_RATIO
from heart.registry.aliases import PASSED

RETRAINING_SECONDS = 1200
# Groups of the promotion gate. A common shift of the risks is wrong for the study's patients by intention, so there
# the gate compares both versions after the shift is taken out.
GROUPS = {
    "source_production": "recent patients of that hospital",
    "source_raw": "held-out patients of the study, for whom the shift is not meant",
}


def first_model(demo: Demo, changes: dict[str, str]) -> None:
    """A copy of the project, its pipeline, and version 1. What the checkout has computed is not computed again."""
    copy(demo.folder, changes)
    demo.run("checkout", "dvc", "checkout", "--allow-missing")
    unchanged = [
        line
        for line in demo.run("pipeline", "dvc", "repro", on_line=demo.show_stage)
        if line.startswith("Stage ") and "didn't change" in line
    ]
    evaluated, verdict = demo.metrics("evaluate"), demo.metrics("register")
    failure = f"the promotion gate rejected the first model: {verdict['reasons']}"
    expect(verdict["verdict"] == PASSED, failure)
    reused = f"{len(unchanged)} stages of the pipeline" if unchanged else "no stage of the pipeline"
    demo.record.say(f"{reused} taken from this checkout; the promotion gate passes version 1")
    demo.record.say(
        f"on {evaluated['rows']} real held-out patients: ROC AUC {_interval(evaluated, 'roc_auc')}, "
        f"Brier score {_interval(evaluated, 'brier')}"
    )


def _interval(figures: Any, name: str) -> str:
    value, low, high = (figures[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def retraining(running: Running, ratios: Mapping[str, float]) -> None:
    """An alert in Grafana's format starts a retraining on the outcomes, which changes the champion."""
    demo, record = running.demo, running.record
    epochs = fewer_epochs(demo.folder)
    other = running.hospitals.other(NEW, SEEN, seed=1)
    with running.service.stream(other) as stream:
        answer = running.receiver.alert("1", ratios)
        expect(answer["status"] == "started", f"the receiver answers {answer['status']}")
        record.say(
            f"an alert on {', '.join(ratios)}, as Grafana sends it: the receiver starts a retraining"
        )
        record.progress(
            f"its generator learns for {epochs} epochs: an update uses no synthetic rows"
        )
        _follow(running)
        update, gate = demo.metrics("train")["update"], demo.metrics("register")
        _show_ladder(running, update)
        _show_gate(running, gate)
        record.figures["ladder"], record.figures["gate"] = update, gate
        wait(lambda: stream.versions[-1:] == ["2"], "version 2 answers a patient")
    expect(not stream.failures, f"requests failed: {stream.failures[:3]}")
    order = stream.versions
    expect(order == ["1", "2"], f"the versions answered in the order {order}, expected 1, 2")
    record.say(f"version 2 answers; none of {stream.answered} requests failed meanwhile")


def _follow(running: Running) -> None:
    """Print the stages of the retraining as they start, until it ends."""
    last, shown = running.receiver.run(), 0
    end = time.monotonic() + RETRAINING_SECONDS
    while last["result"] is None:
        expect(time.monotonic() < end, f"no end after {RETRAINING_SECONDS} s; look at {last['log']}")  # fmt: skip
        time.sleep(0.5)
        lines = Path(last["log"]).read_text().splitlines()
        for line in lines[shown:]:
            running.demo.show_stage(line)
        shown, last = len(lines), running.receiver.run()
    expect(last["result"] == "done", f"the retraining {last['result']}; look at {last['log']}")


def _show_ladder(running: Running, update: Any) -> None:
    say = running.record.say
    expect(update is not None, "there are too few outcomes for an update")
    for rung in update["evidence"]:
        if rung["name"] != KEEP:
            ratio = rung["likelihood_ratio"]
            reason = "" if ratio is None else f"likelihood ratio {ratio:.1f}, "
            reason += f"log loss {-rung['gain']:+.3f} (standard error {rung['error']:.3f})"
            say(f"{'taken' if rung['taken'] else 'not taken':<10} {rung['name']}: {reason}")
    say(
        f"the outcomes support the update: {update['rung']} (a likelihood ratio counts from {LIKELIHOOD_RATIO} on)"
    )


def _show_gate(running: Running, gate: Any) -> None:
    failure = f"the promotion gate rejected version 2: {'; '.join(gate['reasons'])}"
    expect(gate["verdict"] == PASSED, failure)
    say, groups = running.record.say, gate["against_champion"]
    confidence = percent(running.demo.parameters()["register"]["confidence"])
    running.record.figures["confidence"] = confidence
    say(
        f"promotion gate: {gate['verdict']} with {len(gate['checks'])} checks, decided by the {gate['decided_by']}"
    )
    for group, title in GROUPS.items():
        if group in groups and groups[group]["brier"]["difference"] is not None:
            f = groups[group]["brier"]
            say(
                f"{groups[group]['rows']} {title}: Brier score {f['champion']:.3f} before, {f['challenger']:.3f} now: "
                f"{f['difference']:+.3f} ({confidence} paired interval {f['low']:+.3f} to {f['high']:+.3f})"
            )


def roll_back(running: Running) -> None:
    """The version before is the champion again, and the service follows."""
    running.demo.run("rollback", "heart.registry.promote", "--rollback")
    wait(lambda: running.service.version() == "1", "version 1 answers again")
    running.record.say("version 1 is the champion, and answers again")
