"""Models of sequences of symbols (bytes, characters, pixels in a row): recurrent, convolutional, attending."""

from collections.abc import Sequence

from jax import Array

from probgen.autoregressive.autoregressive import Autoregressive, model_of
from probgen.core import recipe
from probgen.distributions import ConditionalModel, integer_head
from probgen.networks import GRU, Transformer, WaveNet


@recipe
def char_rnn(
    length: int,
    levels: int,
    *,
    width: int = 128,
    layers: int = 1,
    order: Sequence[int] | None = None,
    dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> Autoregressive | ConditionalModel:
    """A recurrent model of sequences of symbols 0..levels−1: what came before is a state of fixed size.

        p(x) = Π_i Categorical(x_i; W h_i),   h_i = GRU(h_{i−1}, x_{i−1})

    Args:
        length: of a sequence; shorter ones are `Ragged`.
        levels: how many symbols.
        width: of the states.
        layers: how many recurrent layers.
        order: in which the positions are drawn, and the network sees them; from left to right by default (`Order`).
        dropout: the rate in the network, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    References: Generating Sequences With Recurrent Neural Networks (Graves 2013), arXiv:1308.0850.

    >>> import jax, jax.numpy as jnp
    >>> char_rnn(6, 5, width=8, key=jax.random.key(0)).sample(jax.random.key(1), (3,)).shape
    (3, 6)
    """
    head = integer_head(levels)
    network = GRU(
        levels, head.num_params, width=width, layers=layers, dropout=dropout, context_dim=context_dim, key=key
    )
    return model_of(network, head, (length,), order=order, context_dim=context_dim)


@recipe
def wavenet(
    length: int,
    levels: int,
    *,
    channels: int = 64,
    layers: int = 8,
    cycle: int = 10,
    order: Sequence[int] | None = None,
    dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> Autoregressive | ConditionalModel:
    """Dilated causal convolutions over sequences of symbols 0..levels−1: each layer doubles how far back it sees.

        p(x) = Π_i Categorical(x_i; f(x_{i−R}, …, x_{i−1})),   R = `networks.WaveNet.receptive_field`

    Args:
        length: of a sequence; shorter ones are `Ragged`.
        levels: how many symbols.
        channels: the width of the layers.
        layers: how many convolutions.
        cycle: dilations start again at 1 after so many layers.
        order: in which the positions are drawn, and the network sees them; from left to right by default (`Order`).
        dropout: the rate in the network, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    References: WaveNet (van den Oord et al. 2016), arXiv:1609.03499.

    >>> import jax, jax.numpy as jnp
    >>> wavenet(6, 5, channels=8, layers=2, key=jax.random.key(0)).sample(jax.random.key(1), (3,)).shape
    (3, 6)
    """
    head = integer_head(levels)
    network = WaveNet(
        levels,
        head.num_params,
        channels=channels,
        layers=layers,
        cycle=cycle,
        dropout=dropout,
        context_dim=context_dim,
        key=key,
    )
    return model_of(network, head, (length,), order=order, context_dim=context_dim)


@recipe
def transformer(
    length: int,
    levels: int,
    *,
    width: int = 128,
    heads: int = 4,
    layers: int = 4,
    rotary: bool = False,
    order: Sequence[int] | None = None,
    dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> Autoregressive | ConditionalModel:
    """A decoder transformer over sequences of symbols 0..levels−1: each position attends to all before it.

        p(x) = Π_i Categorical(x_i; f(x_1, …, x_{i−1}))

    Args:
        length: of a sequence; shorter ones are `Ragged`.
        levels: how many symbols.
        width: of the vector that a position has.
        heads: of attention, a divisor of the width.
        layers: how many blocks.
        rotary: whether positions are turned into the queries and keys (RoPE), and not learned.
        order: in which the positions are drawn, and the network sees them; from left to right by default (`Order`).
        dropout: the rate in the network, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    References: Attention Is All You Need (Vaswani et al. 2017), arXiv:1706.03762; of pixels: Generative Pretraining
    from Pixels (Chen et al. 2020).

    >>> import jax, jax.numpy as jnp
    >>> model = transformer(6, 5, width=8, heads=2, layers=1, key=jax.random.key(0))
    >>> model.sample(jax.random.key(1), (3,)).shape
    (3, 6)
    """
    head = integer_head(levels)
    network = Transformer(
        levels,
        head.num_params,
        length=length,
        width=width,
        heads=heads,
        layers=layers,
        rotary=rotary,
        dropout=dropout,
        context_dim=context_dim,
        key=key,
    )
    return model_of(network, head, (length,), order=order, context_dim=context_dim)
