"""Stacks of the one attention.

    block, decoder            residual branches one after another, with their norms
    feedforward, convolution  the parts of a block beside attention
    dropout                   in training, on every branch
    encoder, decoder          blocks one after another
    transformer               encoder and decoder over one vocabulary, with positions
    generation                how a decoder writes: greedily, or the best of several hypotheses
    explain                   which inputs an answer came from

Everywhere a norm stands before each branch (Xiong et al. 2020) and one at the end of a stack.
"""

from headwise.transformer.block import Block, Residual, State
from headwise.transformer.convolution import DepthwiseConvolution
from headwise.transformer.decoder import Decoder, DecoderBlock, DecoderState, DecoderWeights
from headwise.transformer.dropout import Dropout
from headwise.transformer.encoder import Encoder
from headwise.transformer.explain import rollout
from headwise.transformer.feedforward import FeedForward, SwiGLU
from headwise.transformer.generation import Hypotheses, Step, beam_search, greedy
from headwise.transformer.transformer import Transformer, Writer, Written, encoder_decoder

__all__ = [
    "Block",
    "Decoder",
    "DecoderBlock",
    "DecoderState",
    "DecoderWeights",
    "DepthwiseConvolution",
    "Dropout",
    "Encoder",
    "FeedForward",
    "Hypotheses",
    "Residual",
    "State",
    "Step",
    "SwiGLU",
    "Transformer",
    "Writer",
    "Written",
    "beam_search",
    "encoder_decoder",
    "greedy",
    "rollout",
]
