import numpy as np
import pandas as pd
import pytest
import torch
from ctgan.data_transformer import DataTransformer

from heart.synthesis.conditions import ConditionSampler
from heart.synthesis.networks import Discriminators, Generators, Layout, Random
from heart.synthesis.stacked import StackedCTGAN, Training
from heart.synthesis.transformer import Transformer

SETTINGS = {
    "embedding_dim": 4, "epochs": 3, "batch_size": 8, "enable_gpu": False,
    "generator_dim": (6, 5), "discriminator_dim": (7, 6), "generator_lr": 0.01, "discriminator_lr": 0.01,
}  # fmt: skip


def table(rows: int, colors: str = "rgb") -> pd.DataFrame:
    random = np.random.default_rng(rows)
    color = random.choice(list(colors), rows)
    return pd.DataFrame(
        {
            "size": random.normal(size=rows) + 5.0 * (color == "r"),
            "color": color,
            "shape": random.choice(["round", "square"], rows),
        }
    )


TABLES = [table(60), table(40, "rgbw"), table(45, "rg")]  # they differ in their categories


class Prepared:
    """Everything that a fit of three tables needs."""

    def __init__(self) -> None:
        self.stack = StackedCTGAN(SETTINGS, ["color", "shape"], seed=0)
        fits = [self.stack._prepared(part) for part in TABLES]
        self.nets = [generator._generator for generator, _, _ in fits]
        self.critics = [critic for _, critic, _ in fits]
        self.rows = [rows for _, _, rows in fits]
        self.infos = [generator._transformer.output_info_list for generator, _, _ in fits]
        self.layout = Layout.of(self.infos)
        self.generators = Generators(self.nets, self.infos, self.layout, 4, "cpu")
        self.discriminators = Discriminators(self.critics, self.infos, self.layout, "cpu")
        self.sampler = ConditionSampler(self.rows, self.infos, self.layout, "cpu")


@pytest.fixture
def prepared() -> Prepared:
    return Prepared()


def test_each_stacked_generator_computes_what_the_librarys_does(prepared: Prepared) -> None:
    layout = prepared.layout
    inputs = torch.randn(len(TABLES), 4 + layout.conditions, 8)

    logits = prepared.generators(inputs)

    for model, (net, info) in enumerate(zip(prepared.nets, prepared.infos, strict=True)):
        used = [*range(4), *(4 + place for place in layout.condition_places(info))]
        expected = net(inputs[model, used].T).T
        torch.testing.assert_close(logits[model, layout.places(info)], expected)
        absent = sorted(set(range(layout.width)) - set(layout.places(info)))
        assert (prepared.generators.activated(logits, Random(0, "cpu"))[model, absent] == 0).all()


def test_each_stacked_discriminator_computes_what_the_librarys_does(prepared: Prepared) -> None:
    class Ones(Random):
        """Drops no unit; those that dropout keeps are doubled."""

        def coins(self, *shape: int) -> torch.Tensor:
            return torch.ones(shape)

    layout = prepared.layout
    inputs = torch.randn(len(TABLES), layout.width + layout.conditions, 8)

    scores, _ = prepared.discriminators(inputs, Ones(0, "cpu"))

    for model, (critic, info) in enumerate(zip(prepared.critics, prepared.infos, strict=True)):
        used = layout.places(info) + [layout.width + p for p in layout.condition_places(info)]
        rows = inputs[model, used].T
        for layer in critic.seq:
            rows = rows * 2 if isinstance(layer, torch.nn.Dropout) else layer(rows)
        torch.testing.assert_close(scores[model], rows[:, 0])


def test_input_gradients_are_those_of_automatic_differentiation(prepared: Prepared) -> None:
    layout = prepared.layout
    inputs = torch.randn(len(TABLES), layout.width + layout.conditions, 8, requires_grad=True)

    scores, slopes = prepared.discriminators(inputs, Random(0, "cpu"))

    (expected,) = torch.autograd.grad(scores.sum(), inputs)
    torch.testing.assert_close(prepared.discriminators.input_gradients(slopes), expected)


def test_cross_entropy_is_that_of_the_named_category(prepared: Prepared) -> None:
    layout, info = prepared.layout, prepared.infos[1]
    logits = prepared.generators(torch.randn(len(TABLES), 4 + layout.conditions, 2))
    place = layout.condition_places(info)[2]  # the third color of the second table
    conditions = torch.zeros(len(TABLES), layout.conditions, 2)
    conditions[1, place, 0] = 1

    entropy = prepared.generators.cross_entropy(logits, conditions)

    span = logits[
        1, [p for p in layout.places(info) if p >= layout.width - layout.conditions][:4], 0
    ]
    expected = torch.nn.functional.cross_entropy(span[None], torch.tensor([2]))
    assert entropy[1, 0].item() == pytest.approx(expected.item(), rel=1e-5)
    assert entropy[1, 1].item() == entropy[0, 0].item() == 0


def test_real_rows_have_the_category_of_their_condition(prepared: Prepared) -> None:
    random, layout = Random(0, "cpu"), prepared.layout

    conditions = prepared.sampler.conditions(50, 8, random)
    rows = prepared.sampler.matching(conditions, random)[:, :, layout.width - layout.conditions :]

    one_hot = prepared.sampler.one_hot(conditions)
    assert (one_hot.sum(dim=2) == 1).all()
    assert ((rows * one_hot).sum(dim=2) == 1).all()


def test_a_category_is_drawn_in_proportion_to_the_logarithm_of_its_frequency(
    prepared: Prepared,
) -> None:
    conditions = prepared.sampler.conditions(1000, 40, Random(0, "cpu"))

    for model, (info, rows) in enumerate(zip(prepared.infos, prepared.rows, strict=True)):
        places = prepared.layout.condition_places(info)
        shares = torch.bincount(conditions[model].flatten(), minlength=prepared.layout.conditions)
        colors = info[1][0].dim
        frequency = np.log(rows[:, -len(places) :].sum(axis=0) + 1)
        for part in (slice(0, colors), slice(colors, None)):
            expected = frequency[part] / frequency[part].sum() / 2
            drawn = shares[places][part].numpy() / 40_000
            assert drawn == pytest.approx(expected, abs=0.01)


def test_weights_of_what_a_table_lacks_stay_zero(prepared: Prepared) -> None:
    layout = prepared.layout
    training = Training(
        prepared.generators, prepared.discriminators, prepared.sampler, Random(0, "cpu"), SETTINGS
    )
    before = prepared.discriminators.layers[0].weight.detach().clone()

    for _ in range(5):
        training.step()

    after = prepared.discriminators.layers[0].weight.detach()
    for model, info in enumerate(prepared.infos):
        used = layout.places(info) + [layout.width + p for p in layout.condition_places(info)]
        absent = sorted(set(range(layout.width + layout.conditions)) - set(used))
        assert (after[model][:, absent] == 0).all()
        assert (after[model][:, used] != before[model][:, used]).any()


def test_a_table_with_fewer_rows_gets_the_weights_after_its_own_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored: dict[int, int] = {}
    ticks: list[int] = []
    store = Generators.store

    def record(self: Generators, model: int, net: torch.nn.Module) -> None:
        stored[model] = len(ticks) + 1
        store(self, model, net)

    monkeypatch.setattr(Generators, "store", record)
    stack = StackedCTGAN(SETTINGS, ["color", "shape"], seed=0)

    stack.fit(TABLES, lambda: ticks.append(1))

    assert stored == {0: 3 * 7, 1: 3 * 5, 2: 3 * 5}
    assert len(ticks) == 3 * 7


def test_fitted_weights_are_those_of_the_stack() -> None:
    prepared = Prepared()
    prepared.generators.layers[0].weight *= 2
    prepared.generators.norms[0][1].fill_(3)
    prepared.generators.store(1, prepared.nets[1])
    inputs = torch.randn(len(TABLES), 4 + prepared.layout.conditions, 8)

    info = prepared.infos[1]
    used = [*range(4), *(4 + place for place in prepared.layout.condition_places(info))]
    expected = prepared.nets[1](inputs[1, used].T).T
    logits = prepared.generators(inputs)[1, prepared.layout.places(info)]
    torch.testing.assert_close(logits, expected)


def test_rows_follow_the_associations_of_the_table() -> None:
    settings = SETTINGS | {
        "epochs": 100, "batch_size": 40, "generator_dim": (32,), "discriminator_dim": (32,),
        "generator_lr": 0.005, "discriminator_lr": 0.005,
    }  # fmt: skip
    generators = StackedCTGAN(settings, ["color", "shape"], seed=0).fit(
        [table(120), table(90)], lambda: None
    )

    for generator in generators:
        rows = generator.sample(400)
        by_color = rows.groupby("color")["size"].mean()
        assert by_color["r"] - by_color["g"] > 1  # 5 in the table, 0 if nothing is learned


def test_mixtures_are_the_librarys() -> None:
    project, library = Transformer(), DataTransformer()
    for transformer in (project, library):
        transformer.fit(TABLES[0], ["color", "shape"])

    project_mixture, library_mixture = (
        t._column_transform_info_list[0].transform._bgm_transformer for t in (project, library)
    )
    assert project.output_info_list == library.output_info_list
    np.testing.assert_allclose(project_mixture.means_, library_mixture.means_)
    np.testing.assert_allclose(
        project_mixture.covariances_.ravel(), library_mixture.covariances_.ravel()
    )
