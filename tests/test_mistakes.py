"""The commonest mistakes, each of which one sentence answers."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.autoguide import AutoNormal

from probgen import fit
from probgen.evaluation import evaluate, pointwise
from probgen.flows import real_nvp
from probgen.plotting import learning_curve

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (40, 2))
LABELS = jax.random.randint(jax.random.key(2), (40,), 0, 3)
HOT = jax.nn.one_hot(LABELS, 3)
FLOW = real_nvp(2, layers=1, hidden=(4,), key=KEY)
GIVEN = real_nvp(2, layers=1, hidden=(4,), context_dim=3, key=KEY)


def trained(model, data, **how):
    return fit(model, data, **{"steps": 1, "key": KEY, "progress": False, **how})


def refused(call):
    """The sentence of a ValueError: one line."""
    with pytest.raises(ValueError) as error:
        call()
    said = str(error.value)
    assert "\n" not in said and len(said) < 300
    return said


# -- plates of all rows, and batches


def program(size, subsample_size=None):
    def of_plate(x):
        loc = numpyro.sample("loc", dist.Normal(0.0, 1.0))
        with numpyro.plate("data", size or x.shape[0], subsample_size=subsample_size and subsample_size(x)):
            numpyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    return of_plate


WRITE = "write plate('data', x.shape[0]), or plate('data', N, subsample_size=x.shape[0]) where x is a batch"


@pytest.mark.parametrize("batch_size", [10, 1])
def test_a_plate_of_all_rows_on_a_batch(batch_size):
    of_all = program(40)
    how = {"guide": AutoNormal(of_all), "batch_size": batch_size}
    said = refused(lambda: trained(of_all, X[:, 0], **how))
    assert "plate 'data'" in said and "40 elements" in said and WRITE in said


def test_a_plate_of_another_number_of_rows():
    said = refused(lambda: trained(program(30), X[:, 0], guide=AutoNormal(program(30))))
    assert "site 'x' observes 40 values in plate 'data', which has 30 elements: " + WRITE in said


def test_a_plate_that_draws_its_own_batch():
    of_part = program(40, lambda x: 10)
    said = refused(lambda: trained(of_part, X[:, 0], guide=AutoNormal(of_part), batch_size=10))
    assert said == (
        "plate 'data' draws its own subsample: open it with subsample_size=x.shape[0], and fit draws the batches"
    )


@pytest.mark.parametrize("right", [program(None), program(40, lambda x: x.shape[0])])
def test_what_the_sentence_says_to_write_works(right):
    assert trained(right, X[:, 0], guide=AutoNormal(right), batch_size=10).stopped == "finished"


# -- labels


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], np.asarray(LABELS, np.uint8)])
def test_integer_labels_as_a_context(labels):
    one_hot = "labels go in as jax.nn.one_hot(labels, 3), or as they are into a model made with context_levels=3"
    for call in (trained, evaluate, pointwise):
        said = refused(lambda call=call: call(GIVEN, (X, labels)))
        assert said == f"data: expected contexts [N, 3] beside x, got integers of shape {labels.shape}: {one_hot}"
    assert one_hot in refused(lambda: GIVEN(labels))
    assert "one_hot" not in refused(lambda: GIVEN(HOT[:, :2]))


def test_labels_of_as_many_rows_as_a_context_has_numbers():
    """They would have been one context, of all rows."""
    wide = real_nvp(2, layers=1, hidden=(4,), context_dim=40, key=KEY)
    assert "one_hot(labels, 40)" in refused(lambda: trained(wide, (X, LABELS)))


# -- conditional models and their contexts


@pytest.mark.parametrize("call", [trained, evaluate, pointwise])
def test_contexts_that_lack_or_are_too_many(call):
    assert refused(lambda: call(GIVEN, X)) == (
        "data: expected (x, context), since the model is conditional, got 1 array"
    )
    assert refused(lambda: call(FLOW, (X, HOT))) == (
        "data: expected one array x, got 2 arrays: the model takes no context, as one of context_dim=… does"
    )
    assert "several arrays are a tuple" in refused(lambda: call(GIVEN, [X, HOT]))
    assert refused(lambda: call(GIVEN(HOT), X)) == (
        "model: expected batch shape (), got (40,), that of its contexts: pass the conditional model itself, with "
        "data=(x, context)"
    )


@pytest.mark.parametrize("context", [HOT, X])
def test_tuples_where_one_array_is_meant(context):
    wanted = "value: expected one array of events, got a tuple of 2 arrays: a conditional model takes its context first"
    for model in (FLOW, GIVEN(HOT)):
        assert refused(lambda model=model: model.log_prob((X, context))).startswith(wanted)
    said = refused(lambda: GIVEN((X, context)))
    assert said.startswith("context: expected one array, got a tuple of 2 arrays")
    with pytest.raises(AttributeError, match="no 'log_prob': call it with a context first"):
        GIVEN.log_prob((X, context))


# -- results


def test_a_result_where_its_model_is_meant():
    result = trained(FLOW, X)
    for call in (evaluate, pointwise):
        assert refused(lambda call=call: call(result, X)) == (
            "model: expected a distribution, got a FitResult: pass its .model"
        )


def test_a_learning_curve_of_a_result_is_that_of_its_history():
    import matplotlib.pyplot as plt

    result = trained(FLOW, X, steps=60)
    of = lambda history: learning_curve(history, ax=plt.figure().add_subplot()).lines[0].get_xydata()
    np.testing.assert_array_equal(of(result), of(result.history))
    for wrong in (result.losses, result.params, (1, 2), None):
        assert refused(lambda wrong=wrong: of(wrong)).startswith("history: expected a FitResult or its history, got ")
    plt.close("all")


# -- numbers of 64 bits


def test_numbers_beyond_float32():
    good = np.asarray(X, np.float64)
    assert trained(FLOW, good).stopped == "finished"
    for call in (trained, evaluate):
        said = refused(lambda call=call: call(FLOW, good + 1e8))
        assert "are rounded by" in said and said.endswith("in float32: shift and scale them, or set jax_enable_x64")
        said = refused(lambda call=call: call(FLOW, np.where(good > 0, 1e60, good)))
        assert said.startswith("data: expected numbers that fit float32 (or set jax_enable_x64), got 1e+60 in row ")
        assert "expected finite numbers" in refused(lambda call=call: call(FLOW, np.where(good > 0, np.nan, good)))
