"""From a trained recogniser to its model folder, with the proof that its graphs hear, stream, judge and explain the same."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn
from torch.export import Dim

from headwise.examples import Examples
from headwise.export import Graph, Runner, prove, write
from headwise.model_folder import ModelCard, writing
from headwise_pipelines.speech import twins
from headwise_pipelines.speech.decoder import Decoder
from headwise_speech import rescoring, streaming
from headwise_speech.frontend import HOP
from headwise_speech.graph import (
    EXPLAINED_OUTPUTS,
    INPUTS,
    ExplanationGraph,
    RecogniserGraph,
    RescoringGraph,
    StreamGraph,
    dynamic_shapes,
    example,
    rescoring_example,
    rescoring_shapes,
    stream_shapes,
)
from headwise_speech.model import Recogniser
from headwise_speech.subsampling import REDUCTION
from headwise_speech.utterances import Utterances

GRAPH, EXPLANATION = "recogniser.onnx", "explanation.onnx"
EXPLAINED = 3  # batches of utterances that must be explained alike
JUDGED = 30  # utterances whose candidates must be judged alike


def export(model: Recogniser, data: Utterances, decoder: Decoder, target: Path, card: ModelCard) -> ModelCard:
    """Writes the model folder, or nothing.

    Args:
        model: the trained model; one that streams or has an attention decoder gets a graph for each.
        data: whose validation utterances the graphs are proved on.
        decoder: how its answer is read; its tables travel along.
        target: the model folder.
        card: what it says; parity, the length of a frame and the form of the graphs are added here.

    Returns:
        The card as written.

    Raises:
        ParityError: a graph would hear, judge or explain something else than the model.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
        graphs = _Graphs(
            Path(scratch), {"headwise.kind": card.kind, "headwise.run": str(card.provenance.get("run", ""))}
        )
        # A frame of the encoder, in samples: the server tells seconds by it.
        settings: dict[str, Any] = {**card.settings, "hop": REDUCTION * HOP}
        parity: dict[str, Any] = dict(_recogniser(graphs, model, data, decoder))
        parity["explanation"] = _explanation(graphs, model, data, decoder)
        if decoder.judged(model):
            settings["rescoring"] = {"weight": decoder.settings.attention}
            parity["rescoring"] = _rescoring(graphs, model, data, decoder)
        if model.chunk:
            settings["stream"] = asdict(StreamGraph(model).form)
            parity["stream"] = _stream(graphs, model, data, decoder)
        proved = replace(card, settings=settings, parity=parity)
        with writing(target, proved) as draft:
            for file in Path(scratch).iterdir():
                shutil.move(file, draft / file.name)
            decoder.write(draft)
    return proved


class _Graphs:
    def __init__(self, folder: Path, metadata: Mapping[str, str]) -> None:
        self.folder, self._metadata = folder, metadata

    def write(
        self,
        name: str,
        module: nn.Module,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str],
        dynamic: Mapping[str, Mapping[int, Dim]],
    ) -> Path:
        path = self.folder / name
        write(Graph(module, inputs, tuple(outputs), dynamic), path, self._metadata)
        return path


def _recogniser(graphs: _Graphs, model: Recogniser, data: Utterances, decoder: Decoder) -> Mapping[str, Any]:
    graph = RecogniserGraph(model, encoded=decoder.judged(model))
    path = graphs.write(GRAPH, graph, dict(zip(INPUTS, example(), strict=True)), graph.outputs, dynamic_shapes())
    runner = Runner(graph, path, graph.outputs)
    proof = prove(
        runner,
        twins.utterances(data, decoder),
        scores="log_probs",
        same=twins.changed_texts(decoder),
        what="transcripts",
    )
    some = next(iter(twins.utterances(data, decoder)))
    one = {"waveform": some["waveform"][:1, : int(some["lengths"][0])], "lengths": some["lengths"][:1]}
    Examples(one, runner.by_graph(one)).save(graphs.folder)
    return proof


def _explanation(graphs: _Graphs, model: Recogniser, data: Utterances, decoder: Decoder) -> Mapping[str, Any]:
    graph = ExplanationGraph(model)
    inputs = dict(zip(INPUTS, example(), strict=True))
    path = graphs.write(EXPLANATION, graph, inputs, EXPLAINED_OUTPUTS, dynamic_shapes())
    return prove(
        Runner(graph, path, EXPLAINED_OUTPUTS),
        islice(twins.utterances(data, decoder), EXPLAINED),
        scores="attention",
        same=twins.changed_favourites("attention"),
        what="utterances' frames looked at most",
    )


def _rescoring(graphs: _Graphs, model: Recogniser, data: Utterances, decoder: Decoder) -> Mapping[str, Any]:
    graph = RescoringGraph(model)
    samples = rescoring_example(model.head.in_features, model.head.out_features)
    inputs = dict(zip(rescoring.INPUTS, samples, strict=True))
    path = graphs.write(rescoring.RESCORING, graph, inputs, rescoring.OUTPUTS, rescoring_shapes())
    return prove(
        Runner(graph, path, rescoring.OUTPUTS),
        islice(twins.candidates(model, data, decoder), JUDGED),
        scores="scores",
        same=twins.changed_favourites("scores"),
        what="favourites among candidates",
    )


def _stream(graphs: _Graphs, model: Recogniser, data: Utterances, decoder: Decoder) -> Mapping[str, Any]:
    graph = StreamGraph(model)
    inputs = dict(zip(streaming.INPUTS, graph.example(), strict=True))
    path = graphs.write(streaming.STREAM, graph, inputs, streaming.OUTPUTS, stream_shapes())
    return prove(
        twins.StreamTwins(graph, path, decoder),
        twins.utterances(data, decoder),
        scores="log_probs",
        same=twins.changed_texts(decoder),
        what="transcripts of streams",
    )
