"""From a trained recogniser to its model folder, with the proof that its graphs hear and explain the same."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import nn

from headwise.export import TOLERANCE, Arrays, Graph, Runner, prove, write
from headwise.model_folder import ModelCard, writing
from headwise_pipelines.speech.decoder import Decoder
from headwise_speech.batches import Spoken, evenly
from headwise_speech.frontend import HOP
from headwise_speech.graph import (
    EXPLAINED_OUTPUTS,
    INPUTS,
    OUTPUTS,
    ExplanationGraph,
    RecogniserGraph,
    dynamic_shapes,
    example,
)
from headwise_speech.model import Recogniser
from headwise_speech.subsampling import REDUCTION
from headwise_speech.utterances import Utterances

GRAPH, EXPLANATION = "recogniser.onnx", "explanation.onnx"
PROVED = 130  # utterances that the graph must agree on
EXPLAINED = 3  # batches of them that must be explained alike
SECONDS = 40.0  # of audio in a batch of them


def export(model: Recogniser, data: Utterances, decoder: Decoder, target: Path, card: ModelCard) -> ModelCard:
    """Writes the model folder, or nothing.

    Args:
        model: the trained model.
        data: whose validation utterances the graphs are proved on.
        decoder: how its answer is read; its tables travel along.
        target: the model folder.
        card: what it says; parity and the length of a frame are added here.

    Returns:
        The card as written.

    Raises:
        ParityError: a graph would hear or explain something else than the model.
    """
    decode = decoder.build()

    def changed(want: Arrays, got: Arrays) -> int:
        lengths = want["frames"].tolist()
        pairs = zip(want["log_probs"], got["log_probs"], lengths, strict=True)
        return sum(decode(a[:length]).text != decode(b[:length]).text for a, b, length in pairs)

    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
        metadata = {"headwise.kind": card.kind, "headwise.run": str(card.provenance.get("run", ""))}

        def written(module: nn.Module, name: str, outputs: tuple[str, ...]) -> Runner:
            graph = Graph(module, dict(zip(INPUTS, example(), strict=True)), outputs, dynamic_shapes())
            write(graph, Path(scratch) / name, metadata)
            return Runner(module, Path(scratch) / name, outputs)

        parity = prove(
            written(RecogniserGraph(model), GRAPH, OUTPUTS),
            _real_inputs(data, decoder),
            scores="log_probs",
            same=changed,
            what="transcripts",
        )
        explained = prove(
            written(ExplanationGraph(model), EXPLANATION, EXPLAINED_OUTPUTS),
            islice(_real_inputs(data, decoder), EXPLAINED),
            scores="attention",
            same=_changed_favourites,
            what="utterances' frames looked at most",
        )
        # A frame of the encoder, in samples: the server tells seconds by it.
        settings = {**card.settings, "hop": REDUCTION * HOP}
        proved = replace(card, settings=settings, parity={**parity, "explanation": explained})
        with writing(target, proved) as draft:
            for name in (GRAPH, EXPLANATION):
                shutil.move(Path(scratch) / name, draft / name)
            decoder.write(draft)
    return proved


def _real_inputs(data: Utterances, decoder: Decoder) -> Iterator[Arrays]:
    spoken = Spoken(data, decoder.vocabulary)
    for drawn in evenly(data, data.subset("valid")[:PROVED], seconds=SECONDS):
        batch = spoken[drawn]
        yield {"waveform": batch.waveform.numpy(), "lengths": batch.lengths.numpy()}


def _changed_favourites(want: Arrays, got: Arrays) -> int:
    """Utterances with a frame that looks most at another one, by more than rounding."""
    a, b = want["attention"].astype(np.float64), got["attention"].astype(np.float64)
    theirs = np.take_along_axis(a, b.argmax(2)[..., None], 2)[..., 0]
    return int((a.max(2) - theirs > TOLERANCE).any(1).sum())
