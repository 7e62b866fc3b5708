"""The blocks under test. A new kind of block joins every invariant by its line in BLOCKS."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from headwise.attention import Attention, Coordinates, Rotary, rows
from headwise.transformer import Block, DepthwiseConvolution, Encoder, FeedForward, SwiGLU

WIDTH, HEADS, HIDDEN, KERNEL = 52, 2, 31, 5  # head width 26


def plain() -> Block:
    return Block(WIDTH, attention(kv_heads=1), FeedForward(WIDTH, HIDDEN, nn.GELU()))


def gated() -> Block:
    return Block(WIDTH, attention(kv_heads=2), SwiGLU(WIDTH, HIDDEN), gated=True)


def conformer() -> Block:
    opening, closing = FeedForward(WIDTH, HIDDEN, nn.SiLU()), FeedForward(WIDTH, HIDDEN, nn.SiLU())
    convolution = DepthwiseConvolution(WIDTH, KERNEL)
    return Block(WIDTH, attention(kv_heads=2), closing, convolution=convolution, opening=opening)


def attention(kv_heads: int) -> Attention:
    return Attention(WIDTH, HEADS, kv_heads=kv_heads, rotary=Rotary(WIDTH // HEADS))


BLOCKS = {"plain": plain, "gated": gated, "conformer": conformer}


def build(kind: str, blocks: int = 2) -> Encoder:
    encoder = Encoder([BLOCKS[kind]() for _ in range(blocks)], WIDTH)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)  # nothing starts at 0 or 1, so nothing is hidden: gates, norms, biases
    return encoder


@pytest.fixture(autouse=True)
def _seeded_on_one_thread() -> Iterator[None]:
    # For tensors this small, threads only wait for each other: 9 times the time on a busy machine.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(7)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=BLOCKS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """Two blocks of one kind, in double precision."""
    return build(request.param).double()


@pytest.fixture(params=[kind for kind in BLOCKS if kind != "conformer"])
def packable(request: pytest.FixtureRequest) -> Encoder:
    """An encoder that may see several sequences in a row: one without convolutions."""
    return build(request.param).double()


@pytest.fixture
def encoders() -> Callable[[], nn.ModuleDict]:
    """One encoder of each kind, each of one block."""
    return lambda: nn.ModuleDict({kind: build(kind, blocks=1) for kind in BLOCKS})


@pytest.fixture
def at() -> Coordinates:
    """Three rows of one sequence each: a full one, one of a single token, and one in between."""
    return rows(torch.tensor([17, 1, 11]), 17)
