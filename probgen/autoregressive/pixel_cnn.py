"""PixelCNNs."""

from jax import Array

from probgen.autoregressive.autoregressive import Autoregressive
from probgen.core import Contextual, recipe
from probgen.distributions import ConditionalModel, integer_head
from probgen.networks import GatedPixelCNN, Pixels


@recipe
def gated_pixel_cnn(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    channels: int = 32,
    blocks: int = 5,
    reach: int = 1,
    components: int = 0,
    dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> Autoregressive | ConditionalModel:
    """A gated PixelCNN of images [H, W] with integers 0..levels−1, in raster order.

        p(x) = Π_{r,c} p(x_rc | the rows above and the pixels to the left)

    Args: `event_shape` (H, W); `levels`; `channels`, `blocks`, `reach` and `dropout` of the network (`GatedPixelCNN`);
    `components` of a mixture of discretized logistics for a pixel, a categorical where it is 0; with `context_dim` a
    `ConditionalModel`. Raises ValueError where `event_shape` has no two axes.

    References: Conditional Image Generation with PixelCNN Decoders (van den Oord et al. 2016), arXiv:1606.05328.

    >>> import jax, jax.numpy as jnp
    >>> model = gated_pixel_cnn((4, 4), 3, channels=8, blocks=2, key=jax.random.key(0))
    >>> model.log_prob(jnp.zeros((5, 4, 4), int)).shape
    (5,)
    """
    if len(event_shape) != 2:
        raise ValueError(f"event_shape: expected (height, width), got {tuple(event_shape)}")
    height, width = event_shape
    head = integer_head(levels, components=components)
    convolutions = GatedPixelCNN(
        (height, width, 1),
        head.num_params,
        channels=channels,
        blocks=blocks,
        reach=reach,
        dropout=dropout,
        context_dim=context_dim,
        key=key,
    )
    network = Pixels(convolutions, levels, (height, width, 1))
    model = Autoregressive(Contextual(network) if context_dim else network, head, (height, width))
    return ConditionalModel(model, (context_dim,)) if context_dim else model
