"""From a trained recogniser to its model folder, with the proof that the graph hears the same."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from headwise.export import Arrays, Graph, Runner, prove, write
from headwise.model_folder import ModelCard, writing
from headwise_pipelines.speech.decoder import Decoder
from headwise_speech.batches import Spoken, evenly
from headwise_speech.graph import INPUTS, OUTPUTS, RecogniserGraph, dynamic_shapes, example
from headwise_speech.model import Recogniser
from headwise_speech.utterances import Utterances

GRAPH = "recogniser.onnx"
PROVED = 130  # utterances that the graph must agree on
SECONDS = 40.0  # of audio in a batch of them


def export(model: Recogniser, data: Utterances, decoder: Decoder, target: Path, card: ModelCard) -> ModelCard:
    """Writes the model folder, or nothing.

    Args:
        model: the trained model.
        data: whose validation utterances the graph is proved on.
        decoder: how its answer is read; its tables travel along.
        target: the model folder.
        card: what it says; parity is added here.

    Returns:
        The card as written.

    Raises:
        ParityError: the graph would hear something else than the model.
    """
    graph = Graph(RecogniserGraph(model), dict(zip(INPUTS, example(), strict=True)), OUTPUTS, dynamic_shapes())
    decode = decoder.build()

    def changed(want: Arrays, got: Arrays) -> int:
        lengths = want["frames"].tolist()
        pairs = zip(want["log_probs"], got["log_probs"], lengths, strict=True)
        return sum(decode(a[:length]).text != decode(b[:length]).text for a, b, length in pairs)

    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
        path = Path(scratch) / GRAPH
        write(graph, path, {"headwise.kind": card.kind, "headwise.run": str(card.provenance.get("run", ""))})
        runner = Runner(graph.module, path, graph.outputs)
        parity = prove(runner, _real_inputs(data, decoder), scores="log_probs", same=changed, what="transcripts")
        proved = replace(card, parity=parity)
        with writing(target, proved) as draft:
            shutil.move(path, draft / GRAPH)
            decoder.write(draft)
    return proved


def _real_inputs(data: Utterances, decoder: Decoder) -> Iterator[Arrays]:
    spoken = Spoken(data, decoder.vocabulary)
    for drawn in evenly(data, data.subset("valid")[:PROVED], seconds=SECONDS):
        batch = spoken[drawn]
        yield {"waveform": batch.waveform.numpy(), "lengths": batch.lengths.numpy()}
