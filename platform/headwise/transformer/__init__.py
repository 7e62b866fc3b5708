"""Stacks of the one attention: blocks and encoder."""

from headwise.transformer.block import Block, Residual, State
from headwise.transformer.convolution import DepthwiseConvolution
from headwise.transformer.encoder import Encoder
from headwise.transformer.explain import rollout
from headwise.transformer.feedforward import FeedForward, SwiGLU

__all__ = ["Block", "DepthwiseConvolution", "Encoder", "FeedForward", "Residual", "State", "SwiGLU", "rollout"]
