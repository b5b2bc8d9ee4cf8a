"""Networks of images for score models: values against PyTorch, gradients against finite differences, odd sizes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probgen
from probgen.core import with_key
from probgen.inference.training.loop import is_slow_in_loops
from probgen.networks import DiT, ResidualCNN, UNet
from probgen.networks.dit import grid_positions
from probgen.testing import check_gradients

KEY = jax.random.key(5)
X, C = jax.random.normal(jax.random.key(1), (7, 6, 2)), jax.random.normal(jax.random.key(2), (3,))


def unet(shape=(7, 6, 2), out=3, **options):
    return UNet(shape, out, **{"context_dim": 3, "channels": (4, 8), "heads": 2, "key": KEY} | options)


def dit(shape=(4, 6, 2), out=3, **options):
    return DiT(shape, out, **{"context_dim": 3, "width": 8, "depth": 2, "heads": 2, "key": KEY} | options)


def cnn(shape=(7, 6, 2), out=3, **options):
    return ResidualCNN(shape, out, **{"context_dim": 3, "channels": 4, "depth": 2, "key": KEY} | options)


def noisy(tree, scale=0.3):
    """The same network with every weight moved, so that nothing is zero."""
    params, rest = probgen.partition(tree)
    keys = jax.random.split(KEY, len(params))
    moved = {
        p: v + scale * jax.random.normal(k, v.shape) for (p, v), k in zip(sorted(params.items()), keys, strict=True)
    }
    return probgen.combine(moved, rest)


class Torch:
    """The networks in PyTorch, of one image, with our weights."""

    def __init__(self, torch):
        self.torch, self.nn = torch, torch.nn.functional

    def tensor(self, x):
        return self.torch.tensor(np.array(x))

    def linear(self, layer, x):
        return self.nn.linear(x, self.tensor(layer.weight), self.tensor(layer.bias))

    def embed(self, embedding, c):
        return self.nn.silu(self.linear(embedding.out, self.nn.silu(self.linear(embedding.into, c))))

    def attend(self, q, k, v):
        one = lambda x: x.swapaxes(0, 1)
        return one(self.nn.scaled_dot_product_attention(one(q), one(k), one(v))).flatten(1)

    def convolution(self, layer, x):
        pads = []
        for n in (x.shape[1], x.shape[0]):
            beyond = max((-(-n // layer.stride) - 1) * layer.stride + 3 - n, 0)
            pads += [beyond // 2, beyond - beyond // 2]
        wide = self.nn.pad(x.permute(2, 0, 1), pads)
        kernel = self.tensor(layer.kernel).permute(3, 2, 0, 1)
        return self.nn.conv2d(wide[None], kernel, self.tensor(layer.bias), stride=layer.stride)[0].permute(1, 2, 0)

    def normed(self, h):
        return self.nn.rms_norm(h, h.shape[-1:], eps=1e-6)

    def block(self, block, h, e):
        scale, shift = self.linear(block.film, e).chunk(2)
        inner = self.normed(self.convolution(block.into, self.nn.silu(self.normed(h))))
        inner = self.convolution(block.out, self.nn.silu((1 + scale) * inner + shift))
        h = (h if block.across is None else self.linear(block.across, h)) + inner
        if block.attention is not None:
            places = self.normed(h).flatten(0, 1)
            q, k, v = self.linear(block.attention.inwards, places).chunk(3, -1)
            split = lambda x: x.unflatten(-1, (block.attention.heads, -1))
            h = h + self.linear(block.attention.outwards, self.attend(split(q), split(k), split(v))).view(h.shape)
        return h

    def unet(self, net, x, c):
        e, h, said = self.embed(net.embedding, self.tensor(c)), self.convolution(net.into, self.tensor(x)), []
        for stage, blocks in enumerate(net.down):
            h = self.convolution(net.smaller[stage - 1], h) if stage else h
            for block in blocks:
                h = self.block(block, h, e)
                said.append(h)
        for block in net.middle:
            h = self.block(block, h, e)
        for stage in range(len(net.up))[::-1]:
            for block in net.up[stage]:
                h = self.block(block, self.torch.cat([h, said.pop()], -1), e)
            if stage:
                h = self.linear(net.larger[stage - 1], h).repeat_interleave(2, 0).repeat_interleave(2, 1)
                h = h[: said[-1].shape[0], : said[-1].shape[1]]
        return self.convolution(net.out, self.nn.silu(self.normed(h)))

    def cnn(self, net, x, c):
        h = self.convolution(net.into, self.tensor(x)) + self.tensor(net.places)
        for n in range(len(net.blocks.blocks.out.bias)):
            block = jax.tree.map(lambda leaf, n=n: leaf[n], net.blocks.blocks)
            inner = self.convolution(block.into, self.nn.silu(self.normed(h)))
            inner = self.nn.silu(inner + self.linear(block.context, self.tensor(c)))
            h = h + self.convolution(block.out, inner)
        return self.linear(net.out, self.nn.silu(self.normed(h)))

    def dit(self, net, x, c):
        p, (rows, columns) = net.patch, (net.shape[0] // net.patch, net.shape[1] // net.patch)
        width, norm = len(net.into.bias), lambda h: self.nn.layer_norm(h, h.shape[-1:], eps=1e-5)
        tokens = [self.tensor(x)[p * r : p * r + p, p * s : p * s + p].flatten() for r, s in np.ndindex(rows, columns)]
        e, h = self.embed(net.embedding, self.tensor(c)), self.linear(net.into, self.torch.stack(tokens))
        h = h + self.tensor(grid_positions(rows, columns, width)).to(h.dtype)
        for n in range(len(net.blocks.up.bias)):
            block = jax.tree.map(lambda leaf, n=n: leaf[n], net.blocks)
            b1, s1, g1, b2, s2, g2 = self.linear(block.modulation, e).chunk(6)
            q, k, v = self.linear(block.inwards, (1 + s1) * norm(h) + b1).unflatten(-1, (3, block.heads, -1)).unbind(1)
            h = h + g1 * self.linear(block.outwards, self.attend(q, k, v))
            inner = self.nn.gelu(self.linear(block.up, (1 + s2) * norm(h) + b2), approximate="tanh")
            h = h + g2 * self.linear(block.down, inner)
        b, s = self.linear(net.modulation, e).chunk(2)
        h = self.linear(net.out, (1 + s) * norm(h) + b).view(rows, columns, p, p, -1)
        return h.swapaxes(1, 2).reshape(*net.shape[:2], -1)


@pytest.mark.parametrize("make", [unet, dit, cnn])
def test_it_is_the_same_network_in_pytorch(make):
    torch = Torch(pytest.importorskip("torch"))
    net = noisy(make(depth=2))
    x = X[: net.shape[0], : net.shape[1]]
    want = getattr(torch, make.__name__)(net, x, C).numpy()
    got = jax.jit(lambda net: net(x, C))(net)
    assert got.shape == (*net.shape[:2], 3) and np.abs(want).max() > 0.3
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("make", [lambda: unet(out=1, attention=(0, 1)), lambda: dit(out=1), lambda: cnn(out=1)])
def test_its_gradients_are_those_of_finite_differences(make):
    net = noisy(make())
    x = X[: net.shape[0], : net.shape[1]]
    check_gradients(net, lambda net, x, c: jnp.sum(net(x, c)[..., 0] * x[..., 0]), x, C)


def test_sizes_stages_and_what_attends():
    for shape, channels in (((7, 7, 1), (4, 4, 8)), ((1, 3, 2), (4, 8)), ((5, 8, 1), (4,))):
        net = unet(shape, 2 * shape[2], channels=channels, depth=2)
        x = jnp.ones(shape)
        y = jax.eval_shape(lambda net, x: net(x, C), net, x)
        assert y.shape == (*shape[:2], 2 * shape[2])
    attends = lambda net: [[b.attention is not None for b in blocks] for blocks in (*net.down, net.middle, *net.up)]
    assert attends(unet()) == [[False], [True], [True, False], [False], [True]]
    assert attends(unet(attention=(0,))) == [[True], [False], [False, False], [True], [False]]
    assert not any(map(any, attends(unet(attention=(), heads=None))))
    one, two = (noisy(unet(attention=(1,), heads=heads)) for heads in (1, 2))
    assert np.abs(one(X, C) - two(X, C)).max() > 1e-3


@pytest.mark.parametrize(("make", "x"), [(unet, X), (dit, X[:4]), (cnn, X)])
def test_it_starts_at_zero_and_then_sees_the_image_and_the_context(make, x):
    net = make(dropout=0.5)
    np.testing.assert_array_equal(net(x, C), 0.0)
    net = noisy(net)
    y = net(x, C)
    assert np.abs(net(x, C + 1.0) - y).max() > 1e-2 < np.abs(net(x + 1.0, C) - y).max()
    one, two = (with_key(net, jax.random.key(k))(x, C) for k in range(2))
    assert np.abs(one - two).max() > 1e-2 < np.abs(one - y).max()
    with pytest.raises(ValueError, match="x: expected an image of shape"):
        net(x[1:], C)
    with pytest.raises(ValueError, match="context: expected 3 numbers, got shape"):
        net(x, C[1:])


def test_a_mirrored_image_in_mirrored_kernels_is_mirrored():
    net = noisy(unet(channels=(4,), depth=2, attention=(0,)))
    mirrored = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf[:, ::-1] if "kernel" in jax.tree_util.keystr(path) else leaf, net
    )
    np.testing.assert_allclose(mirrored(X[:, ::-1], C), net(X, C)[:, ::-1], rtol=1e-3, atol=1e-4)


def test_blocks_of_a_diffusion_transformer_are_the_identity_at_first():
    net = dit(depth=3)
    out = probgen.networks.Linear(8, 4 * 3, key=KEY)
    net = eqx.tree_at(lambda net: net.out, net, out)
    h = jax.vmap(net.into)(net._patches(X[:4])) + grid_positions(2, 3, 8)
    h = h - h.mean(-1, keepdims=True)
    want = jax.vmap(out)(h / jnp.sqrt((h**2).mean(-1, keepdims=True) + 1e-5))
    np.testing.assert_allclose(net(X[:4], C), net._image(want), rtol=1e-4, atol=1e-5)


def test_patches_are_put_where_they_were_and_places_differ():
    net = dit((4, 6, 2), 2)
    np.testing.assert_array_equal(net._image(net._patches(X[:4])), X[:4])
    np.testing.assert_array_equal(net._patches(X[:4])[4].reshape(2, 2, 2), X[2:4, 2:4])
    places = grid_positions(5, 7, 16)
    assert len(np.unique(places.round(6), axis=0)) == 35
    products = places @ places.T  # of two places they depend on how far they are apart
    np.testing.assert_allclose(products[0, 7 * 2 + 3], products[7 * 1 + 2, 7 * 3 + 5], rtol=1e-6)


def test_it_does_not_grow_with_depth_nor_is_slow_in_a_loop():
    text = lambda depth: str(jax.make_jaxpr(dit(depth=depth))(X[:4], C))
    assert text(2).count("dot_general") == text(5).count("dot_general")
    loss = lambda net: jax.vmap(net)(X[None], C[None]).sum()
    assert not any(is_slow_in_loops(jax.make_jaxpr(jax.grad(loss))(make())) for make in (unet, cnn))


@pytest.mark.parametrize(("make", "options", "message"), [
    (unet, {"shape": (7, 6)}, "shape: expected .H, W, C."),
    (unet, {"out": 0}, "out_channels: expected an integer of at least 1"),
    (unet, {"channels": ()}, "channels: expected those of each stage"),
    (unet, {"depth": 0}, "depth: expected an integer of at least 1"),
    (unet, {"context_dim": 0}, "context_dim: expected an integer of at least 1"),
    (unet, {"attention": (2,)}, "attention: expected stages from -2 to 1"),
    (unet, {"attention": 1}, "attention: expected stages from -2 to 1"),
    (unet, {"attention": (1, -1)}, "attention: expected each stage once"),
    (unet, {"attention": ()}, "heads: expected none where no stage attends"),
    (unet, {"heads": 3}, "heads: expected a divisor of the 8 channels"),
    (unet, {"dropout": 1.0}, "dropout rate"),
    (unet, {"activation": "relu"}, "activation: expected a function"),
    (cnn, {"channels": 0}, "channels: expected an integer of at least 1"),
    (cnn, {"out": 0}, "out_channels: expected an integer of at least 1"),
    (dit, {"patch": 4}, "patch: expected a divisor of the rows and columns .4, 6., got 4"),
    (dit, {"width": 6}, "width: expected a multiple of 4"),
    (dit, {"heads": 3}, "heads: expected a divisor of the width 8"),
    (dit, {"depth": 0}, "depth: expected an integer of at least 1"),
])  # fmt: skip
def test_unusable_arguments(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
