"""What learns, what does not, and what survives jit, stacking, programs and files."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys
import warnings
from copy import deepcopy

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import SVI, Predictive, Trace_ELBO
from registry import KEY

import probgen
from probgen import combine, from_params, load, module, partition, random_module, save, with_key
from probgen.bijectors import Affine, AffineTransformer, Chain, Constant, Coupling, Permute, Rotation, stack
from probgen.core import Contextual, Frozen, Kind, Recipe, bind, given, has_update, leaves, log1mexp, state, vectorize
from probgen.distributions import ConditionalModel, Dequantized, Transformed
from probgen.mixtures import EM, categorical_mixture
from probgen.networks import MLP, Dropout


def _model():
    """A flow with everything that must not learn: a base, a rotation, integer orders, a frozen network."""

    def layer(key):
        net = MLP(2, 4, hidden=(8,), out_scale=0.1, key=key)
        return Chain(
            [Coupling(net, AffineTransformer(), split=2), Permute(jax.random.permutation(key, 4)), Rotation(4, key=key)]
        )

    frozen = Coupling(Frozen(MLP(2, 4, hidden=(8,), out_scale=0.1, key=KEY)), AffineTransformer(), split=2)
    layers = stack([layer(key) for key in jax.random.split(KEY, 3)])
    exp = dist.transforms.ExpTransform()
    bijector = Chain([Affine(jnp.zeros(4), jnp.zeros(4)), layers, frozen, Constant(exp.inv), Constant(exp)])
    return Transformed(dist.Normal(jnp.zeros(4), 1.5).to_event(1), bijector)


def test_what_learns_moves_and_what_does_not_is_bit_identical():
    model = jax.jit(lambda m: m)(_model())
    x = jax.random.normal(KEY, (64, 4))
    params, rest = partition(model)
    optimizer = optax.adamw(1e-2, weight_decay=0.1)

    @jax.jit
    def step(params, opt_state):
        loss = lambda p: -combine(p, rest).log_prob(x).mean()
        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    opt_state, trained = optimizer.init(params), params
    for _ in range(100):
        trained, opt_state = step(trained, opt_state)
    before, after = leaves(model), leaves(combine(trained, rest))
    assert [leaf.path for leaf in before] == [leaf.path for leaf in after]
    learned = {leaf.path for leaf in before if leaf.kind is Kind.LEARNED and leaf.path in params}
    assert learned == set(params) and len(learned) == 6
    for old, new in zip(before, after, strict=True):
        same = np.array_equal(np.asarray(old.value), np.asarray(new.value))
        assert same != (old.path in learned), old.path
    for word in ("permutation", "matrix", "base", "tree"):
        assert any(word in leaf.path for leaf in before) and not any(word in path for path in learned)


def test_kinds_by_structure():
    class Module(eqx.Module):
        weight: jax.Array
        numpy: np.ndarray
        context: jax.Array = given()
        running: jax.Array = state()

    tree = {
        "m": Module(jnp.ones(2), np.ones(3), jnp.ones(1), jnp.ones(1)),
        "raw": jnp.ones(2),
        "normal": dist.Normal(jnp.zeros(2)),
    }
    for copy in (tree, jax.jit(lambda t: t)(tree)):
        assert {leaf.path: leaf.kind for leaf in leaves(copy)} == {
            "m.weight": Kind.LEARNED,
            "m.numpy": Kind.LEARNED,
            "m.context": Kind.GIVEN,
            "m.running": Kind.STATE,
            "raw": Kind.VALUE,
            "normal.loc": Kind.VALUE,
            "normal.scale": Kind.VALUE,
        }
        assert set(partition(copy)[0]) == {"m.weight", "m.numpy"}


def test_learnable_narrows_and_combine_checks():
    model = _model()
    params, rest = partition(model, lambda path, leaf: "shift" in path)
    assert list(params) == ["bijector.bijectors.0.shift"]
    with pytest.raises(ValueError, match="disagree"):
        combine({}, rest)


def test_stacked_and_vmapped_models_partition_alike():
    one = _model()
    many = jax.tree.map(lambda *x: jnp.stack(x), one, one)
    assert list(partition(many)[0]) == list(partition(one)[0])
    log_prob = jax.jit(jax.vmap(lambda m, x: m.log_prob(x), in_axes=(0, None)))
    assert log_prob(many, jnp.zeros(4)).shape == (2,)


def test_plain_jit_vmap_scan_and_no_retrace():
    model, traces = _model(), []

    @jax.jit
    def f(model, x):
        traces.append(None)
        return model.log_prob(x), model

    x = jnp.ones((5, 4))
    first, again = f(model, x)
    f(again, x + 1)
    f(jax.tree.map(lambda leaf: leaf * 1, model), x)
    assert len(traces) == 1
    _, scanned = jax.lax.scan(lambda m, x: (m, m.log_prob(x)), model, x)
    np.testing.assert_allclose(scanned, first, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(model.log_prob))(x), first, rtol=1e-5)


def test_frozen_stops_gradients_and_given_passes_them():
    net = MLP(1, 1, hidden=(4,), out_scale=1.0, key=KEY)
    assert all((g == 0).all() for g in jax.tree.leaves(jax.grad(lambda f: f(jnp.ones(1)).sum())(Frozen(net))))
    conditional = Contextual(MLP(1, 1, hidden=(4,), out_scale=1.0, context_dim=2, key=KEY))
    assert (jax.grad(lambda c: bind(conditional, c)(jnp.ones(1)).sum())(jnp.ones(2)) != 0).all()


def test_module_and_svi():
    flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=KEY)
    x = 2 + jax.random.normal(KEY, (128, 2))

    def program(x):
        q = module("flow", flow)
        with numpyro.plate("data", len(x)):
            numpyro.sample("x", q, obs=x)

    svi = SVI(program, lambda x: None, optax.adam(1e-2), Trace_ELBO())
    result = svi.run(KEY, 200, x, progress_bar=False)
    assert list(result.params) == ["flow$params"]
    learned = from_params(result.params, "flow", flow)
    log_prob = jax.jit(lambda flow: flow.log_prob(x).mean())
    assert log_prob(learned) > log_prob(flow) + 1
    assert module("flow", flow) is flow or module("flow", flow).event_shape == (2,)
    with pytest.raises(ValueError, match="no site"):
        from_params({}, "flow", flow)


def test_random_module_is_a_bayesian_model():
    flow = probgen.flows.real_nvp(2, layers=2, hidden=(4,), key=KEY)

    def program(x):
        drawn = random_module("flow", flow, lambda path, leaf: None if "bias" in path else dist.Normal(0.0, 0.1))
        with numpyro.plate("data", 3):
            numpyro.sample("x", drawn, obs=x)

    trace = numpyro.handlers.trace(numpyro.handlers.seed(program, KEY)).get_trace(jnp.zeros((3, 2)))
    sites = {name: site for name, site in trace.items() if site["type"] == "sample" and not site["is_observed"]}
    assert set(sites) == {f"flow.{path}" for path in partition(flow)[0] if "bias" not in path}
    draws = Predictive(program, num_samples=5)(KEY, None)
    assert draws["x"].shape == (5, 3, 2)


def test_save_and_load(tmp_path):
    model, file = _model(), tmp_path / "model.safetensors"
    with pytest.warns(UserWarning, match="like="):
        save(file, model)
    other = jax.tree.map(lambda leaf: leaf + 1 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, model)
    for a, b in zip(leaves(load(file, like=other)), leaves(model), strict=True):
        assert a.path == b.path and np.array_equal(a.value, b.value)
    with pytest.raises(ValueError, match="no recipe"):
        load(file)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    "build",
    [
        lambda: probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=KEY),
        lambda: probgen.flows.real_nvp(2, layers=2, hidden=(8,), context_dim=3, key=KEY),
        lambda: probgen.flows.on_levels(probgen.flows.real_nvp(4, layers=2, hidden=(8,), key=KEY), (2, 2), 5),
        lambda: probgen.flows.maf(2, layers=2, hidden=(8,), activation=jnp.tanh, key=KEY),
        lambda: probgen.flows.bayes_net_flow(np.array([[0, 0], [1, 0]]), hidden=(8,), key=KEY),
        lambda: probgen.flows.bayes_net_flow(jnp.array([[0, 0], [1, 0]]), hidden=(8,), key=KEY),
        lambda: categorical_mixture((2,), 3, components=2, key=KEY),
    ],
)
def test_a_recipe_is_rebuilt_from_its_file(build, tmp_path):
    model, file = build(), tmp_path / "model.safetensors"
    save(file, jax.jit(lambda m: m)(model))
    again = load(file)
    assert jax.tree.structure(again) == jax.tree.structure(model)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(model), strict=True))


def test_broken_files_are_refused(tmp_path):
    flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=KEY)
    file = tmp_path / "model.safetensors"
    save(file, flow)
    with pytest.raises(FileNotFoundError, match="no model file"):
        load(tmp_path / "nothing")
    wider = probgen.flows.real_nvp(2, layers=2, hidden=(9,), key=KEY)
    with pytest.raises(ValueError, match=r"leaf '.*weight': .* has float32\[2, 8, 1\], the model float32\[2, 9, 1\]"):
        load(file, like=wider)
    deeper = probgen.flows.real_nvp(2, layers=2, hidden=(8, 8), key=KEY)
    with pytest.raises(ValueError, match=r"lacks the leaf '.*layers.2.bias'"):
        load(file, like=deeper)
    with pytest.raises(ValueError, match="has a leaf"):
        load(file, like=probgen.flows.real_nvp(2, layers=2, hidden=(), key=KEY))
    (tmp_path / "cut").write_bytes(file.read_bytes()[:-7])
    (tmp_path / "foreign").write_bytes(b"not a model at all")
    for name in ("cut", "foreign"):
        with pytest.raises(ValueError, match="no whole safetensors"):
            load(tmp_path / name)
    import safetensors.numpy

    safetensors.numpy.save_file({"a": np.ones(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match="not a probgen model"):
        load(tmp_path / "other")
    with pytest.raises(ValueError, match="cannot hold"):
        save(file, {"f": object()})
    assert load(file).event_shape == (2,)  # the failed save left the old file whole


def _score():
    return probgen.score.vp_score((2,), width=8, depth=1, steps=3, key=KEY)


def test_a_model_that_its_recipe_no_longer_makes_does_not_claim_it(tmp_path):
    file, changed = tmp_path / "m", _score().replace(sampler=probgen.score.Heun(20))
    with pytest.warns(UserWarning, match="no recipe makes this model"):
        save(file, changed)
    with pytest.raises(ValueError, match="pass like="):
        load(file)
    assert load(file, like=changed).sampler == probgen.score.Heun(20)
    conditional = probgen.flows.real_nvp(2, layers=2, hidden=(8,), context_dim=3, key=KEY)
    other = probgen.flows.real_nvp(2, layers=2, hidden=(9,), context_dim=3, key=KEY)
    many = jax.tree.map(lambda *x: jnp.stack(x), _score(), _score())
    for claims in (dataclasses.replace(conditional, model=other.model), with_key(conditional, KEY), many):
        with pytest.warns(UserWarning, match="like="):
            save(file, claims)
        assert load(file, like=claims) is not None
        with pytest.raises(ValueError, match="pass like="):
            load(file)


def test_other_values_keep_the_recipe(tmp_path):
    model = categorical_mixture((2,), 3, components=2, key=KEY)
    for changed in (model.replace(logits=jnp.ones(2)), EM(model).update(jnp.zeros((4, 2), int), KEY).model):
        save(tmp_path / "m", changed)
        np.testing.assert_array_equal(load(tmp_path / "m").logits, changed.logits)


def test_a_recipe_that_eval_shape_cannot_run_or_that_takes_no_key(tmp_path):
    @probgen.recipe
    def concrete(size, *, key):
        size = size + int(jax.random.randint(key, (), 0, 1))
        return Transformed(dist.Normal(jnp.zeros(size), 1.0).to_event(1), Affine(jnp.zeros(size), jnp.zeros(size)))

    @probgen.recipe
    def keyless(size):
        return Transformed(dist.Normal(jnp.zeros(size), 1.0).to_event(1), Affine(jnp.ones(size), jnp.zeros(size)))

    for model in (concrete(np.int64(2), key=KEY), keyless(2)):
        save(tmp_path / "m", model)
        assert load(tmp_path / "m").event_shape == (2,)


def test_two_leaves_of_one_path_are_refused(tmp_path):
    clash = {"a": {"b": jnp.zeros(2)}, "a.b": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"share the path 'a\.b'"):
        save(tmp_path / "m", clash)
    assert not (tmp_path / "m").exists()
    with pytest.warns(UserWarning, match="like="):
        save(tmp_path / "m", {"a.b": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"share the path 'a\.b'"):
        load(tmp_path / "m", like=clash)


def test_copies_of_models():
    flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=KEY)
    assert deepcopy(flow).log_prob(jnp.ones(2)) == flow.log_prob(jnp.ones(2))
    with pytest.raises(pickle.PicklingError, match="relu"):  # jax's own; if this changes, `save` should say so
        pickle.dumps(flow)


_HASH_SCRIPT = """
import sys, jax, jax.numpy as jnp, numpyro.distributions as dist, probgen
from probgen.bijectors import Affine
from probgen.distributions import Transformed
model = Transformed(dist.Normal(jnp.zeros(3), 2.0).to_event(1), Affine(jnp.arange(3.0), jnp.ones(3)))
if sys.argv[1] == "save":
    probgen.save(sys.argv[2], model)
else:
    other = Transformed(dist.Normal(jnp.ones(3), 9.0).to_event(1), Affine(jnp.zeros(3), jnp.zeros(3)))
    model = probgen.load(sys.argv[2], like=other)
print(float(model.log_prob(jnp.ones(3))), [leaf.path for leaf in probgen.core.leaves(model)])
print(jax.tree.leaves(model)[0].shape)
"""


def test_files_and_leaf_order_do_not_depend_on_the_hash_seed(tmp_path):
    def run(seed, command):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        arguments = [sys.executable, "-c", _HASH_SCRIPT, command, str(tmp_path / "m")]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout

    assert len({run("1", "save"), run("2", "load"), run("3", "load")}) == 1


def test_dropout_and_keys():
    net = MLP(3, 2, hidden=(64,), dropout=0.5, out_scale=1.0, key=KEY)
    x = jnp.ones(3)
    assert (net(x) == net(x)).all()
    noisy = with_key(net, KEY)
    assert not jnp.allclose(noisy(x), net(x)) and (noisy(x) == noisy(x)).all()
    assert not jnp.allclose(noisy(x), with_key(net, jax.random.key(1))(x))
    rows = jax.vmap(with_key(Dropout(0.5), KEY))(jnp.arange(1.0, 33.0)[:, None] * jnp.ones(32))
    assert len({tuple(row) for row in (np.asarray(rows) == 0).tolist()}) == 32  # a mask for every row
    layered = probgen.flows.real_nvp(2, layers=4, hidden=(8,), dropout=0.5, key=KEY)
    log_prob = jax.jit(lambda flow: flow.log_prob(jnp.ones(2)))
    assert log_prob(jax.jit(with_key)(layered, KEY)) != log_prob(layered)
    assert partition(with_key(layered, KEY))[0].keys() == partition(layered)[0].keys()


def test_equal_rows_have_masks_of_their_own():
    """Wherever probgen maps over rows, and within a scan; a plain `vmap` tells a network nothing of its rows."""
    masks = lambda rows: {tuple(row) for row in (np.asarray(rows) == 0).reshape(-1, 32).tolist()}
    drop = with_key(Dropout(0.5), KEY)
    assert len(masks(jax.jit(vectorize(drop, 1))(jnp.ones((8, 32))))) == 8
    assert len(masks(jax.jit(vectorize(vectorize(drop, 1), 2))(jnp.ones((4, 2, 32))))) == 8
    scanned = lambda x: jax.lax.scan(lambda c, y: (c, drop(y)), 0.0, x)[1]
    assert len(masks(jax.jit(vectorize(scanned, 2))(jnp.ones((8, 1, 32))))) == 8
    flow = probgen.flows.real_nvp(2, layers=4, hidden=(16,), dropout=0.5, key=KEY)
    params, rest = partition(flow)
    noisy = with_key(combine({path: leaf + 0.1 for path, leaf in params.items()}, rest), KEY)
    summed = lambda x: (noisy.log_prob(x).sum(), noisy.log_prob(x))
    (_, log_prob), slope = jax.jit(jax.value_and_grad(summed, has_aux=True))(jnp.ones((8, 2)))
    assert len(set(log_prob.tolist())) == 8 and np.isfinite(slope).all()
    conditional = probgen.flows.real_nvp(2, layers=2, hidden=(16,), context_dim=3, dropout=0.5, key=KEY)
    params, rest = partition(conditional)
    conditional = with_key(combine({path: leaf + 0.1 for path, leaf in params.items()}, rest), KEY)
    log_prob = jax.jit(lambda c, x: conditional(c).log_prob(x))(jnp.ones((4, 3)), jnp.ones((2, 4, 2)))
    assert len(set(log_prob.ravel().tolist())) == 8


def test_a_program_can_be_evaluated_without_dropout():
    flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), dropout=0.5, key=KEY)
    params, rest = partition(flow)
    flow = combine({path: leaf + 0.3 for path, leaf in params.items()}, rest)
    program = lambda x: module("flow", flow).log_prob(x)
    x, seeded = jnp.ones(2), lambda program: numpyro.handlers.seed(program, KEY)
    assert seeded(program)(x) != flow.log_prob(x)
    assert seeded(probgen.evaluating(program))(x) == flow.log_prob(x)
    assert probgen.evaluating(seeded(program))(x) == flow.log_prob(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpyro's, for a key that nobody needs
        with probgen.evaluating():
            assert program(x) == flow.log_prob(x)
    assert seeded(program)(x) != flow.log_prob(x)

    def observed(x):
        numpyro.sample("x", module("flow", flow), obs=x)

    draws = Predictive(probgen.evaluating(observed), num_samples=3)(KEY, None)
    assert draws["x"].shape == (3, 2)


def test_only_the_model_itself_is_updated_and_a_stateful_part_alone_is_refused():
    class Center(Affine):
        def update(self, batch, key):
            return self

    em = EM(categorical_mixture((2,), 3, components=2, key=KEY))
    part = Transformed(dist.Normal(jnp.zeros(2), 1.0).to_event(1), Chain([Center(jnp.zeros(2), jnp.zeros(2))]))
    assert has_update(em) and not has_update(em.model) and not has_update({"a": jnp.ones(1)})
    with pytest.raises(ValueError, match=r"bijector\.bijectors\.0.*Center.*update"):
        has_update(part)
    with pytest.raises(ValueError, match=r"'model'.*EM"):
        has_update(ConditionalModel(em, (3,)))


def test_a_recipe_with_a_function_of_ones_own_needs_like(tmp_path):
    @probgen.recipe
    def custom(activation, *, key):
        return Transformed(dist.Normal(jnp.zeros(2), 1.0).to_event(1), Affine(activation(jnp.zeros(2)), jnp.zeros(2)))

    def relu(x):
        return jax.nn.relu(x)

    with pytest.warns(UserWarning, match="like="):
        save(tmp_path / "m", custom(relu, key=KEY))
    with pytest.raises(ValueError, match="no recipe"):
        load(tmp_path / "m")
    assert load(tmp_path / "m", like=custom(relu, key=KEY)).event_shape == (2,)


@pytest.mark.parametrize("name", ["os.system", "jax.nn._private", "jax.nn.nothing", "jax.numpy.pi"])
def test_a_file_names_no_function_but_those_of_jax(name):
    with pytest.raises(ValueError, match=r"a function of jax\.nn or jax\.numpy"):
        Recipe("flows.maf", json.dumps({"dim": 2, "activation": {"function": name}})).build(key=KEY)


@pytest.mark.parametrize("context_dim", [0, -1])
@pytest.mark.parametrize(
    "recipe",
    [
        lambda **c: probgen.flows.nsf(2, **c, key=KEY),
        lambda **c: probgen.flows.cdf_flow(2, **c, key=KEY),
        lambda **c: probgen.flows.bayes_net_flow([[0]], **c, key=KEY),
        lambda **c: probgen.mixtures.gaussian_mixture(2, components=2, **c, key=KEY),
        lambda **c: probgen.flows.histogram_flow(2, low=0.0, high=1.0, **c, key=KEY),
        lambda **c: probgen.autoregressive.made((2, 2), 3, **c, key=KEY),
        lambda **c: probgen.latent.vae((2, 2), 3, **c, key=KEY),
        lambda **c: probgen.score.vp_score((2,), **c, key=KEY),
    ],
)
def test_no_recipe_takes_a_context_of_no_numbers_for_none(recipe, context_dim):
    with pytest.raises(ValueError, match="context_dim: expected an integer of at least 1"):
        recipe(context_dim=context_dim)


def test_log1mexp_is_accurate_at_both_ends():
    x = jnp.array([1e-30, 1e-8, 0.1, 0.7, 5.0, 80.0])
    np.testing.assert_allclose(log1mexp(x), np.log(-np.expm1(-np.asarray(x, np.float64))), rtol=2e-6, atol=1e-30)
    assert np.isfinite(jax.vmap(jax.grad(log1mexp))(x)).all()


def test_a_conditional_model_says_that_it_wants_a_context():
    conditional = probgen.flows.real_nvp(2, layers=2, hidden=(8,), context_dim=3, key=KEY)
    with pytest.raises(AttributeError, match=r"'log_prob': call it with a context first"):
        conditional.log_prob(jnp.zeros(2))
    assert not hasattr(conditional, "nothing")


def test_conditional_models_are_pytrees():
    conditional = probgen.flows.real_nvp(2, layers=2, hidden=(8,), context_dim=3, key=KEY)
    assert isinstance(jax.jit(lambda m: m)(conditional), ConditionalModel)
    params, _ = partition(conditional(jnp.ones((4, 3))))
    assert {p.removeprefix("model.") for p in params} == {p.removeprefix("model.") for p in partition(conditional)[0]}
    assert not any("context" in path for path in params)
    d = Dequantized(conditional(jnp.ones(3)), 4)
    assert jax.jit(lambda d: d.log_prob_bound(KEY, jnp.zeros((5, 2), int)))(d).shape == (5,)
