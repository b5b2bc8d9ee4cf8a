"""Convolutional networks of images: values against PyTorch, gradients against finite differences, odd sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import probgen
from probgen.core import Contextual, with_key
from probgen.distributions import BernoulliHead, Conditional, ConditionalModel, NormalHead
from probgen.inference.training.loop import is_slow_in_loops
from probgen.latent import LatentVariableModel
from probgen.networks import Convolution, ImageDecoder, ImageEncoder, ResidualBlocks, Upsample
from probgen.networks.convolution import convolve

KEY = jax.random.key(3)


def noisy(tree, scale=0.3):
    """The same network with every weight moved, so that nothing is zero."""
    params, rest = probgen.partition(tree)
    keys = jax.random.split(KEY, len(params))
    moved = {
        path: p + scale * jax.random.normal(k, p.shape)
        for (path, p), k in zip(sorted(params.items()), keys, strict=True)
    }
    return probgen.combine(moved, rest)


@pytest.mark.parametrize(("size", "stride", "image"), [(3, 1, (5, 4)), (3, 2, (7, 7)), (5, 3, (8, 11)), (1, 1, (2, 3))])
def test_a_convolution_is_pytorchs(size, stride, image):
    torch = pytest.importorskip("torch")
    layer = noisy(Convolution(2, 3, size=size, stride=stride, key=KEY))
    x = jax.random.normal(KEY, (*image, 2))
    got = jax.jit(lambda layer, x: layer(x))(layer, x)
    assert got.shape == (*(-(-n // stride) for n in image), 3)
    beyond = [(m - 1) * stride + size - n for n, m in zip(image, got.shape[:2], strict=True)]
    top, left = (max(b, 0) // 2 for b in beyond)
    wide = torch.nn.functional.pad(
        torch.tensor(np.array(x)).permute(2, 0, 1), (left, max(beyond[1], 0) - left, top, max(beyond[0], 0) - top)
    )
    kernel, bias = torch.tensor(np.array(layer.kernel)).permute(3, 2, 0, 1), torch.tensor(np.array(layer.bias))
    want = torch.nn.functional.conv2d(wide[None], kernel, bias, stride=stride)[0].permute(1, 2, 0)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)


def test_its_gradients_are_those_of_finite_differences_and_of_jaxs_own():
    with jax.enable_x64(True):
        x = jax.random.normal(KEY, (5, 7, 2), "float64")
        kernel = jax.random.normal(KEY, (3, 2, 2, 3), "float64")
        for padding, stride in ((((1, 1), (0, 1)), 1), (((0, 1), (1, 1)), 2)):
            one = lambda x, kernel, padding=padding, stride=stride: jnp.sin(convolve(x, kernel, padding, stride))
            check_grads(jax.jit(one), (x, kernel), 2, modes=("fwd", "rev"))
            plain = lambda x, kernel, padding=padding, stride=stride: jnp.sin(
                jax.lax.conv_general_dilated(
                    x[None], kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
            )
            got, want = (jax.jit(jax.grad(lambda *a, f=f: f(*a).sum(), (0, 1)))(x, kernel) for f in (one, plain))
            jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, atol=1e-12), got, want)


def test_blocks_are_the_identity_at_first_and_then_what_their_formula_says():
    blocks, h, context = ResidualBlocks(3, 2, context_dim=2, key=KEY), jax.random.normal(KEY, (4, 5, 3)), jnp.ones(2)
    np.testing.assert_array_equal(blocks(h, context), h)
    blocks, want = noisy(blocks), h

    @jax.jit
    def by_formula(b, h):
        normed = h / jnp.sqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6)
        inner = b.into(jax.nn.silu(normed)) + b.context.weight @ context + b.context.bias
        return h + b.out(jax.nn.silu(inner))

    for n in range(2):
        want = by_formula(jax.tree.map(lambda leaf, n=n: leaf[n], blocks.blocks), want)
    np.testing.assert_allclose(jax.jit(lambda b: b(h, context))(blocks), want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="context: expected one, got None"):
        blocks(h)
    with pytest.raises(ValueError, match="context: expected none"):
        ResidualBlocks(3, 1, key=KEY)(h, context)


def test_dropout_is_in_the_blocks():
    blocks, h = noisy(ResidualBlocks(3, 2, dropout=0.5, key=KEY)), jnp.ones((4, 4, 3))
    drops, run = with_key(blocks, KEY), jax.jit(lambda blocks: blocks(h))
    assert not np.allclose(run(drops), run(blocks)) and np.array_equal(run(drops), run(drops))


@pytest.mark.parametrize("image", [(7, 7, 1), (1, 10, 2)])
def test_odd_sizes_are_halved_thrice_and_come_back(image):
    """Every pixel reaches the vector, and every number of it every pixel's neighbourhood."""
    channels = (2, 3, 3, 4)
    encoder = noisy(ImageEncoder(image, 5, channels=channels, key=KEY))
    decoder = noisy(ImageDecoder(5, image, channels=channels, key=KEY))
    x = jax.random.normal(KEY, image)
    vector, at_x = jax.jit(lambda net, x: (net(x), jax.grad(lambda x: jnp.sin(net(x)).sum())(x)))(encoder, x)
    again, at_z = jax.jit(lambda net, z: (net(z), jax.grad(lambda z: jnp.sin(net(z)).sum())(z)))(decoder, jnp.ones(5))
    assert vector.shape == (5,) and again.shape == image and (at_x != 0).all() and (at_z != 0).all()


def test_gradients_of_the_networks_are_those_of_finite_differences():
    with jax.enable_x64(True):
        encoder = noisy(ImageEncoder((3, 5, 1), 2, channels=(2, 3), context_dim=2, activation=jnp.tanh, key=KEY))
        decoder = noisy(ImageDecoder(2, (3, 5, 2), channels=(2, 3), activation=jnp.tanh, key=KEY))
        params, rest = probgen.partition((encoder, decoder))
        params = {path: p.astype("float64") for path, p in params.items()}

        def f(params, x, context):
            encoder, decoder = probgen.combine(params, rest)
            return decoder(encoder(x, context))

        check_grads(
            jax.jit(f), (params, jnp.ones((3, 5, 1)), jnp.array([0.3, -1.0])), 1, modes=("rev",), eps=1e-6, rtol=1e-5
        )


def test_their_gradient_runs_in_a_loop():
    encoder = ImageEncoder((4, 4, 1), 2, channels=(2, 3), key=KEY)
    loss = lambda net: jax.vmap(net)(jnp.ones((2, 4, 4, 1))).sum()
    assert not is_slow_in_loops(jax.make_jaxpr(jax.grad(loss))(encoder))


def test_compile_time_does_not_grow_with_depth():
    text = lambda depth: str(jax.make_jaxpr(ResidualBlocks(2, depth, key=KEY))(jnp.ones((4, 4, 2))))
    assert text(2).count("conv_general_dilated[") == text(9).count("conv_general_dilated[")


def test_a_conditional_vae_of_images_trains_and_its_file_loads(tmp_path):
    keys = jax.random.split(KEY, 3)
    networks = {"channels": (2, 4), "context_dim": 3, "dropout": 0.1}
    encoder = Contextual(ImageEncoder((5, 5, 1), 4, **networks, key=keys[0]))
    decoder = Contextual(ImageDecoder(2, (5, 5, 1), **networks, key=keys[1]))
    prior = probgen.flows.affine_flow(2, key=KEY)
    posterior = Conditional(encoder, NormalHead(), (2,), context_ndims=3)
    likelihood = Conditional(decoder, BernoulliHead(), (5, 5, 1))
    model = ConditionalModel(LatentVariableModel(prior, likelihood, posterior, context_shape=(3,)), (3,))
    x = jnp.broadcast_to(jnp.arange(5)[:, None, None] < 2, (20, 5, 5, 1)).astype(int)
    c = jax.random.normal(keys[2], (20, 3))
    optimizer = optax.adam(0.03)
    result = probgen.fit(model, (x, c), steps=40, optimizer=optimizer, key=KEY, progress=False)
    assert np.mean(result.losses[-5:]) < 0.7 * result.losses[0]
    with pytest.warns(UserWarning, match="like="):
        probgen.save(tmp_path / "model", result.model)
    again = probgen.load(tmp_path / "model", like=model)
    got, want = (jax.jit(lambda m: m(c).log_prob_bound(KEY, x))(m) for m in (again, result.model))
    np.testing.assert_array_equal(got, want)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"shape: expected \(H, W, C\), got \(28, 28\)"):
        ImageEncoder((28, 28), 2, key=KEY)
    with pytest.raises(ValueError, match="channels: expected those of each stage"):
        ImageDecoder(2, (4, 4, 1), channels=(), key=KEY)
    with pytest.raises(ValueError, match=r"channels\[1\]: expected an integer of at least 1, got 0"):
        ImageDecoder(2, (4, 4, 1), channels=(4, 0), key=KEY)
    with pytest.raises(ValueError, match="x: expected an image of shape"):
        ImageEncoder((4, 4, 1), 2, channels=(2,), key=KEY)(jnp.ones((4, 5, 1)))
    with pytest.raises(ValueError, match="size: expected twice"):
        Upsample(1, 1, key=KEY)(jnp.ones((2, 2, 1)), (5, 4))
    with pytest.raises(ValueError, match="depth"):
        ResidualBlocks(2, 0, key=KEY)
