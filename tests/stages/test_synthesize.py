import numpy as np
import pandas as pd
import pytest

from heart.errors import UserError
from heart.ml.tstr import utility
from heart.registry.publishing import fictional_rows
from heart.schema import MEASUREMENTS, NAMES, OUTCOME, encode
from heart.synthesis import generator
from heart.synthesis.attack import LIMIT
from heart.synthesis.generator import complete, device_of, draw, fit_generators, mask, steps
from stages import params, synthesize


def options(**changes: object) -> params.Synthesize:
    small = {"epochs": 2, "batch_size": 20, "embedding_dim": 8, "layers": [16], "rows": 40}
    fixed = {"model": "ctgan", "learning_rate": 0.001, "seed": 0, "device": "cpu", "max_rows": 1000}
    fixed |= {"epsilon": 1.0, "delta": 0.00001}
    return params.Synthesize.model_validate({**small, **fixed, **changes})


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    """Patients of nobody, the odd rows with values missing, sick if they have ST depression."""
    codes = fictional_rows(rows, seed)
    made = pd.DataFrame(
        {
            m.name: [m.text(round(float(v), 3)) for v in codes[:, i]]
            for i, m in enumerate(MEASUREMENTS)
        }
    )
    positive = codes[:, NAMES.index("st_depression")] > 4
    made[OUTCOME.name] = np.where(positive, "presence", "absence")
    made["fold"] = [str(row % 3) for row in range(rows)]
    return made


class Replay:
    """A generator that gives back what it was asked for."""

    def __init__(self, *samples: pd.DataFrame) -> None:
        self.samples = list(samples)

    def set_random_state(self, seed: int) -> None:
        pass

    def sample(self, _rows: int) -> pd.DataFrame:
        return self.samples.pop(0) if len(self.samples) > 1 else self.samples[0]


@pytest.mark.parametrize("model", ["ctgan", "tvae"])
def test_generator_is_deterministic_and_reports_every_step(model: str) -> None:
    tables = [complete(table(rows), seed=0) for rows in (60, 45)]
    ticks: list[int] = []

    samples = [
        [
            g.sample(20)
            for g in fit_generators(tables, options(model=model), lambda: ticks.append(1))
        ]
        for _ in range(2)
    ]

    for one, other in zip(*samples, strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert len(ticks) == 2 * steps([60, 45], options(model=model))


def test_rows_out_of_bounds_and_copies_are_redrawn_and_counted() -> None:
    real = table(20)
    whole = real[(real != "").all(axis=1)]  # nobody lacks a value: `mask` changes nothing
    copies = complete(whole, 0)
    good = copies.assign(cholesterol=333.4)
    bad = good.assign(cholesterol=5.2)

    result, redrawn = draw(Replay(bad, copies, good), whole, rows=len(good), seed=0)

    assert redrawn == {"invalid_rows": len(bad), "copied_rows": len(copies)}
    assert set(result["cholesterol"]) == {"333"}
    assert len(encode({name: result[name].tolist() for name in NAMES})) == len(good)


def test_generator_without_valid_rows_is_an_error() -> None:
    hopeless = complete(table(20), 0).assign(age=-1.0)

    with pytest.raises(UserError, match="0 of 10 synthetic rows are valid"):
        draw(Replay(hopeless), table(20), rows=10, seed=0)


def test_negative_st_depression_becomes_zero() -> None:
    real = table(20).assign(st_depression="0")
    below = complete(table(10), 0).assign(st_depression=-0.7)

    result, redrawn = draw(Replay(below), real, rows=10, seed=0)

    assert redrawn["invalid_rows"] == 0
    assert set(result["st_depression"]) <= {"0", ""}


def test_missing_values_come_back_at_their_real_rate() -> None:
    real = table(200).assign(thallium=["" if i % 4 == 0 else "normal" for i in range(200)])
    synthetic = pd.concat([complete(table(200, seed=9), 0).astype(str)] * 20, ignore_index=True)

    masked = mask(synthetic, real, np.random.default_rng(0))

    assert (masked["thallium"] == "").mean() == pytest.approx(0.25, abs=0.03)
    assert (masked["age"] != "").all()
    assert (masked[OUTCOME.name] == synthetic[OUTCOME.name]).all()


def test_completion_borrows_from_patients_with_the_same_outcome() -> None:
    real = table(40)
    positive = real[OUTCOME.name] == "presence"
    real["thallium"] = np.where(positive, "reversible_defect", "normal")
    real.loc[real.index[::5], "thallium"] = ""

    filled = complete(real, seed=1)

    assert set(filled.loc[positive, "thallium"]) == {"reversible_defect"}
    assert set(filled.loc[~positive, "thallium"]) == {"normal"}


@pytest.mark.parametrize(
    ("setting", "gpu", "device"),
    [("cpu", True, "cpu"), ("auto", True, "cuda"), ("auto", False, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device_is_a_gpu_where_one_is_wanted_and_there(
    setting: str, gpu: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)

    assert device_of(setting) == device


def test_a_gpu_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    with pytest.raises(UserError, match="device is cuda, but torch finds no GPU"):
        fit_generators([complete(table(40), seed=0)], options(device="cuda"), lambda: None)


@pytest.mark.parametrize("model", ["heart.synthesis.stacked.CTGAN", "ctgan.TVAE"])
@pytest.mark.parametrize(("device", "used"), [("auto", True), ("cpu", False)])
def test_generator_is_configured_with_the_device(
    model: str, device: str, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Recorded(Exception):
        """Ends the fit once the library has its arguments."""

    def record(*_: object, enable_gpu: bool, **__: object) -> None:
        assert enable_gpu == used
        raise Recorded

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(model, record)

    with pytest.raises(Recorded):
        fit_generators(
            [table(4)], options(model=model.rpartition(".")[2].lower(), device=device), lambda: None
        )


@pytest.mark.parametrize("column", ["thallium", "major_vessels", "cholesterol"])
def test_measurement_missing_in_all_rows_is_missing_in_all_synthetic_rows(column: str) -> None:
    real = table(10).assign(**{column: ""})

    filled = complete(real, seed=0)
    masked = mask(filled.astype(str), real, np.random.default_rng(0))

    assert len(set(filled[column])) == 1
    assert set(masked[column]) == {""}


@pytest.mark.parametrize(
    ("real", "expected"), [(["0", "0", "0.4", "1"], "0"), ([*map(str, range(20))], "-0.2")]
)
def test_values_below_a_lowest_value_that_many_patients_have_become_it(
    real: list[str], expected: str
) -> None:
    measurement = next(m for m in MEASUREMENTS if m.name == "st_depression")

    texts = generator.choice_texts(measurement, pd.Series([-0.2, 1.0]), pd.Series(real))

    assert texts.tolist() == [expected, "1"]


def test_utility_separates_real_signal_from_noise() -> None:
    train = table(240)
    honest = table(240, seed=2)
    noise = honest.assign(
        heart_disease=honest[OUTCOME.name].sample(frac=1, random_state=0).to_numpy()
    )

    assert utility(train, honest)["tstr_auc"] > 0.9
    assert utility(train, noise)["tstr_auc"] < 0.8
    assert utility(train, noise)["trtr_auc"] == utility(train, honest)["trtr_auc"]


@pytest.mark.parametrize(("high", "warned"), [(LIMIT, False), (LIMIT + 0.01, True)])
def test_attack_whose_upper_end_is_beyond_the_limit_is_a_warning(high: float, warned: bool) -> None:
    attack = {"attacker": "density", "auc": 0.55, "low": 0.5, "high": high}

    warning = synthesize.membership_warning(attack)

    assert bool(warning) == warned
