"""What `fit` says of data that a density cannot have, before training, and of losses that no data allow, after it."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.autoguide import AutoNormal

from probgen import fit
from probgen.autoregressive import made
from probgen.bijectors import Affine, AffineTransformer, Chain, Coupling
from probgen.distributions import Transformed, initialize
from probgen.distributions.transformed import expects_standardized
from probgen.flows import maf, on_levels, real_nvp
from probgen.inference import DataWarning
from probgen.inference.training.guards import Floor, check_loss, look
from probgen.mixtures import GaussianMixture
from probgen.mixtures.gaussian import _raw
from probgen.networks import MLP

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3)).astype(np.float32)
ROUNDED = RNG.integers(0, 3, (400, 2)).astype(np.float32) / 2  # on nine points


def flow(dim=3, **how):
    return real_nvp(dim, layers=2, hidden=(4,), key=KEY, **how)


def mixture(scale):
    """Of nine normals at the nine points."""
    points = np.stack(np.meshgrid([0, 0.5, 1], [0, 0.5, 1]), -1).reshape(9, 2)
    return GaussianMixture(jnp.zeros(9), points, jnp.full((9, 2), _raw(scale)))


def changed(column, values):
    out = np.array(X)
    out[:, column] = values
    return out


FAR = changed(1, 120 + 30 * X[:, 1])


def warned(model, data, **options):
    """What `fit` warns of, in the line that calls it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, data, **{"steps": 1, "key": KEY, "progress": False, **options})
    assert all(w.category is DataWarning and w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


# -- before training


def test_data_that_a_density_can_have_are_not_spoken_of():
    assert warned(flow(), X) == []
    assert warned(flow(), X[:5]) == []
    assert warned(flow(2, context_dim=1), (X[:, :2], ROUNDED[:, :1])) == []  # a context may be anything


def test_a_flow_far_from_its_data_is_told_of_initialize():
    (said,) = warned(flow(), FAR)
    assert said.startswith("data: column 1 has mean 12") and "probgen.distributions.initialize(flow, x)" in said
    assert len(warned(flow(3, context_dim=1), (FAR, X[:, :1]))) == 1
    assert len(warned(flow(), changed(0, X[:, 0] / 100))) == 1
    assert warned(initialize(flow(), FAR), FAR) == []


def test_it_is_said_before_anything_compiles(monkeypatch):
    monkeypatch.setattr("probgen.inference.training.task.ModelTask.init", lambda *_: pytest.fail("compiled"))
    with pytest.raises(DataWarning):  # an error here, as all warnings in these tests
        fit(flow(), FAR, steps=1, key=KEY, progress=False)


def by_hand(*layers, loc=0.0):
    coupling = Coupling(MLP(1, 4, hidden=(4,), key=KEY), AffineTransformer(), split=1)
    return Transformed(dist.Normal(jnp.full(3, loc), 1.0), Chain([*layers, coupling]))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (flow(), True),
        (maf(3, layers=1, hidden=(4,), key=KEY), True),
        (by_hand(), True),
        (initialize(flow(), FAR), False),
        (by_hand(Affine(jnp.array([0.0, 120.0, 0.0]), jnp.zeros(3))), False),
        (by_hand(loc=120.0), False),
        (Transformed(flow(), dist.transforms.ExpTransform()), False),
        (mixture(1.0), False),
    ],
)
def test_which_models_begin_near_a_standard_normal(model, expected):
    assert expects_standardized(model) == expected


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            changed(2, 7.0),
            "data: column 2 is always 7 in 400 rows: a density grows without bound on a constant; leave it out",
        ),
        (changed(2, X[:, 0]), "data: column 2 is column 0 again in 400 rows: a density grows without bound where"),
        (changed(1, RNG.integers(0, 12, 400) / 10), "data: column 1 has 12 distinct values on steps of 0.1 in 400"),
        (changed(2, 2.2046 * X[:, 0] + 1), "data: column 2 is a multiple of column 0 and a constant "),
        (changed(2, 3.0 - X[:, 1]), "data: column 2 is a multiple of column 1 and a constant "),
        (changed(1, RNG.choice(RNG.normal(size=7), 400)), "data: column 1 has 7 distinct values in 400 rows: a"),
    ],
)
def test_columns_without_a_density_are_named_with_the_reason(data, said):
    (found,) = warned(initialize(flow(), X), data.astype(np.float32))
    assert found.startswith(said)


def test_only_the_first_of_many_columns_are_named_and_numbers_of_images_by_their_place():
    x = np.zeros((60, 3, 3), np.float32)
    x[:, 0] = RNG.normal(size=(60, 3))
    model = Transformed(dist.Normal(jnp.zeros((3, 3)), 1.0).to_event(2), Affine(jnp.zeros((3, 3)), jnp.zeros((3, 3))))
    (said,) = warned(model, x)
    assert (
        said.startswith("data: number (1, 0) is always 0, number (1, 1) is always 0, ")
        and " and 2 more in 60 rows: " in said
    )
    scalar = Transformed(dist.Normal(0.0, 1.0), Affine(jnp.zeros(()), jnp.zeros(())))
    assert warned(scalar, np.tile([0.5, 1.0], 40))[0].startswith("data: has 2 distinct values on steps of 0.5 in 80")


def test_integers_programs_and_few_rows_are_no_business_of_it():
    codes = RNG.integers(0, 2, (100, 3))
    assert warned(made((3,), 2, hidden=(4,), key=KEY), codes) == []
    assert warned(on_levels(flow(), (3,), levels=2), codes) == []
    assert warned(flow(), ROUNDED[:40, [0, 1, 0]]) == []

    def program(x):
        loc = numpyro.sample("loc", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    assert warned(program, ROUNDED[:, 0], guide=AutoNormal(program)) == []


def test_users_can_silence_it():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DataWarning)
        fit(flow(), FAR, steps=1, key=KEY, progress=False)


def test_of_many_rows_a_part_is_looked_at():
    rows = 200_000
    column = np.concatenate([np.zeros(rows - 1, np.float32), np.ones(1, np.float32)])  # the last row is not looked at
    with pytest.warns(DataWarning, match=r"column 0 is always 0 in 20,000 of 200,000 rows: "):
        look(mixture(1.0), ((np.stack([column, RNG.normal(size=rows)], 1),), {}), "=")


# -- after it


def test_the_floor_is_what_the_rows_own_frequencies_on_their_cells_attain():
    with pytest.warns(DataWarning):
        floor = look(mixture(1.0), ((ROUNDED,), {}), "=")
    _, place, counts = np.unique(ROUNDED, axis=0, return_inverse=True, return_counts=True)
    density = counts[place.ravel()] / len(ROUNDED) / 0.5**2  # flat on each cell, of area 0.5²
    assert floor.loss == pytest.approx(-np.log(density).mean(), rel=1e-12) and floor.steps == [0.5, 0.5]
    given = real_nvp(2, layers=1, hidden=(4,), context_dim=1, key=KEY)
    with pytest.warns(DataWarning):
        assert look(given, ((ROUNDED, X[:, :1]), {}), "=").loss == pytest.approx(2 * np.log(0.5))
    with pytest.warns(DataWarning):
        assert look(mixture(1.0), ((np.stack([ROUNDED[:, 0], X[:, 0]], 1),), {}), "=") is None  # one is not rounded


def test_a_loss_that_rounded_rows_do_not_allow_is_called_out():
    _, said = warned(mixture(0.01), ROUNDED)
    assert said.startswith("fit: the training loss of -") and "rounded to steps of 0.5, 0.5" in said
    assert f"is below {look_quietly(ROUNDED).loss:.4g}, the least" in said
    assert len(warned(mixture(0.3), ROUNDED)) == 1  # of the repetitions, before training
    noisy = ROUNDED + RNG.uniform(-0.25, 0.25, ROUNDED.shape).astype(np.float32)
    assert warned(mixture(0.01), noisy) == []


def look_quietly(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return look(mixture(1.0), ((x,), {}), "=")


def test_a_loss_is_that_of_the_last_epoch():
    floor = Floor(-1.0, [0.1])
    check_loss(floor, np.array([-9.0, -1.5, 0.0]), epoch=2)  # −0.75 on average
    check_loss(floor, np.array([-9.0]), epoch=2)  # not all rows were seen
    check_loss(None, np.array([-9.0]), epoch=1)
    with pytest.warns(DataWarning, match=r"-1.25 nats is below -1, .* steps of 0.1"):
        check_loss(floor, np.array([5.0, -1.5, -1.0]), epoch=2)
