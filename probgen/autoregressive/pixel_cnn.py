"""PixelCNNs: with a blind spot, gated, and with the ordinal head of PixelCNN++."""

import functools
from collections.abc import Callable, Sequence

from jax import Array

from probgen.autoregressive.autoregressive import Autoregressive, model_of
from probgen.core import as_shape, recipe
from probgen.distributions import ConditionalModel, integer_head
from probgen.networks import GatedPixelCNN, PixelCNN, Pixels


@recipe
def pixel_cnn(
    event_shape: Sequence[int],
    levels: int,
    *,
    channels: int = 64,
    depth: int = 5,
    first_reach: int = 3,
    reach: int = 1,
    components: int = 0,
    order: Sequence[int] | None = None,
    dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> Autoregressive | ConditionalModel:
    """A PixelCNN of images with integers 0..levels−1: one stack of causal convolutions, which has a blind spot.

        p(x) = Π_{r,c} p(x_rc | what the stack sees of the rows above and of the pixels to the left)

    Args:
        event_shape: (H, W), or (H, W, C) with the channels of a pixel one after another.
        levels: how many integers a number takes, at least 2.
        channels: F, the width of the stack.
        depth: how many residual blocks the stack has.
        first_reach: how far the first kernel reaches, in pixels.
        reach: how far the other kernels reach.
        components: of the mixture of discretized logistics that a number has; a categorical where it is 0.
        order: in which the flat positions are drawn, and the network sees the image; raster by default (`Order`).
        dropout: the rate in the network, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    Raises ValueError where `event_shape` has other axes.

    References: Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner, Kavukcuoglu 2016), arXiv:1601.06759.

    >>> import jax, jax.numpy as jnp
    >>> model = pixel_cnn((4, 4), 3, channels=8, depth=1, key=jax.random.key(0))
    >>> model.log_prob(jnp.zeros((5, 4, 4), int)).shape
    (5,)
    """

    network = functools.partial(
        PixelCNN,
        channels=channels,
        depth=depth,
        first_reach=first_reach,
        reach=reach,
        dropout=dropout,
        context_dim=context_dim,
        key=key,
    )
    return _of_images(event_shape, levels, network, components=components, order=order, context_dim=context_dim)


@recipe
def gated_pixel_cnn(
    event_shape: Sequence[int],
    levels: int,
    *,
    channels: int = 32,
    depth: int = 5,
    reach: int = 1,
    shortcuts: bool = False,
    components: int = 0,
    order: Sequence[int] | None = None,
    dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> Autoregressive | ConditionalModel:
    """A gated PixelCNN of images with integers 0..levels−1: two stacks, which together see all that comes before.

        p(x) = Π_{r,c} p(x_rc | the rows above and the pixels to the left)

    Args:
        event_shape: (H, W), or (H, W, C) with the channels of a pixel one after another.
        levels: how many integers a number takes, at least 2.
        channels: F, the width of each stack.
        depth: how many blocks the stacks have.
        reach: how far a kernel reaches, in pixels.
        shortcuts: whether the first half of the blocks is handed on to the second (`networks.GatedPixelCNN`).
        components: of the mixture of discretized logistics that a number has; a categorical where it is 0.
        order: in which the flat positions are drawn, and the network sees the image; raster by default (`Order`).
        dropout: the rate in the network, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    Raises ValueError where `event_shape` has other axes, or `shortcuts` are asked of an odd number of blocks.

    References: Conditional Image Generation with PixelCNN Decoders (van den Oord et al. 2016), arXiv:1606.05328.

    >>> import jax, jax.numpy as jnp
    >>> model = gated_pixel_cnn((4, 4), 3, channels=8, depth=2, key=jax.random.key(0))
    >>> model.log_prob(jnp.zeros((5, 4, 4), int)).shape
    (5,)
    """

    network = functools.partial(
        GatedPixelCNN,
        channels=channels,
        depth=depth,
        reach=reach,
        shortcuts=shortcuts,
        dropout=dropout,
        context_dim=context_dim,
        key=key,
    )
    return _of_images(event_shape, levels, network, components=components, order=order, context_dim=context_dim)


@recipe
def pixel_cnn_pp(
    event_shape: Sequence[int],
    levels: int,
    *,
    channels: int = 64,
    depth: int = 6,
    reach: int = 1,
    components: int = 5,
    order: Sequence[int] | None = None,
    dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> Autoregressive | ConditionalModel:
    """A gated PixelCNN with what PixelCNN++ adds to it: mixtures of discretized logistics instead of a softmax, and
    shortcuts.

    Its masses sum to 1 and its draws lie on the grid. Unlike in the paper, each channel of a pixel has a mixture of its
    own, set by a network of the channels before it, and the images keep their resolution.

    Args:
        event_shape: (H, W), or (H, W, C) with the channels of a pixel one after another.
        levels: how many integers a number takes, at least 2.
        channels: F, the width of each stack.
        depth: how many blocks the stacks have, an even number.
        reach: how far a kernel reaches, in pixels.
        components: of the mixture of discretized logistics that a number has; a categorical where it is 0.
        order: in which the flat positions are drawn, and the network sees the image; raster by default (`Order`).
        dropout: the rate in the network, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    Raises ValueError where `event_shape` has other axes, or `depth` is odd.

    References: PixelCNN++ (Salimans, Karpathy, Chen, Kingma 2017), arXiv:1701.05517.

    >>> import jax, jax.numpy as jnp
    >>> model = pixel_cnn_pp((4, 4, 3), 256, channels=8, depth=2, key=jax.random.key(0))
    >>> model.log_prob(jnp.zeros((5, 4, 4, 3), int)).shape
    (5,)
    """
    return gated_pixel_cnn(
        event_shape,
        levels,
        channels=channels,
        depth=depth,
        reach=reach,
        shortcuts=True,
        components=components,
        order=order,
        dropout=dropout,
        context_dim=context_dim,
        key=key,
    )


def _of_images(
    event_shape: Sequence[int],
    levels: int,
    network: Callable[[tuple[int, int, int], int], Callable[..., Array]],
    *,
    components: int,
    order: Sequence[int] | None,
    context_dim: int | None,
) -> Autoregressive | ConditionalModel:
    """Return the model of the network that `network(image_shape, num_params)` builds."""
    if len(event_shape) not in (2, 3):
        raise ValueError(
            f"event_shape: expected (height, width) or (height, width, channels), got {tuple(event_shape)}"
        )
    height, width, colours = (*as_shape(event_shape), 1)[:3]
    head = integer_head(levels, components=components)
    pixels = Pixels(network((height, width, colours), head.num_params), levels, (height, width, colours))
    return model_of(pixels, head, event_shape, order=order, context_dim=context_dim)
