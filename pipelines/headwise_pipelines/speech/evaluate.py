"""How well a recogniser folder, as it is served, hears the test part of a data set."""

from collections.abc import Mapping
from pathlib import Path

from headwise.errors import InputError
from headwise_pipelines.speech.report import Heard, commonest_text
from headwise_speech.prepare import prepare
from headwise_speech.service import load
from headwise_speech.text import normalise


def evaluate(folder: Path, data: Path, work: Path) -> tuple[dict[str, float], dict[str, Mapping[str, float]]]:
    """Error rates over the test utterances, and those of always answering the commonest training text.

    Raises:
        InputError: the data has no test part.
    """
    prepared = prepare(data, work / "data")
    service = load(folder, max_seconds=float("inf"))
    indices = prepared.subset("test")
    if not len(indices):
        raise InputError(f"{data}: has no test utterances; name them in test.jsonl")
    hypotheses = [service.hear(prepared.waveform(index)) for index in indices.tolist()]
    references = [normalise(prepared.texts[index]) for index in indices]
    metrics = Heard(indices, references, hypotheses).metrics()
    if not len(prepared.subset("train")):
        return metrics, {}
    return metrics, {"commonest text": commonest_text(prepared).metrics()}
