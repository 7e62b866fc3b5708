"""The recogniser as it is exported.

recogniser   a batch of whole recordings to log-probabilities
explanation  what each frame looked at
rescoring    what the attention decoder thinks of a few transcripts
"""

from headwise_speech.graph.explanation import EXPLAINED_OUTPUTS, ExplanationGraph
from headwise_speech.graph.recogniser import (
    ENCODED,
    INPUTS,
    OUTPUTS,
    RecogniserGraph,
    dynamic_shapes,
    example,
)
from headwise_speech.graph.rescoring import RescoringGraph, rescoring_example, rescoring_shapes
from headwise_speech.graph.streaming import StreamGraph, stream_shapes

__all__ = [
    "ENCODED",
    "EXPLAINED_OUTPUTS",
    "INPUTS",
    "OUTPUTS",
    "ExplanationGraph",
    "RecogniserGraph",
    "RescoringGraph",
    "StreamGraph",
    "dynamic_shapes",
    "example",
    "rescoring_example",
    "rescoring_shapes",
    "stream_shapes",
]
