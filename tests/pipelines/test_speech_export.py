"""A recogniser with all its graphs, from a model that has learnt nothing to a folder that hears, streams and judges."""

from pathlib import Path

import numpy as np
import pytest
import torch

from headwise.errors import ParityError
from headwise.model_folder import ModelCard, read_card
from headwise_pipelines.speech import export as exporting
from headwise_pipelines.speech.decoder import Decoder
from headwise_pipelines.speech.presets import DecoderSettings
from headwise_pipelines.speech.twins import StreamTwins, changed_favourites
from headwise_speech.decoding import Hypothesis
from headwise_speech.model import Recogniser, recogniser
from headwise_speech.rescoring import read_rescorer
from headwise_speech.streaming import read_streamer
from headwise_speech.text import Vocabulary
from headwise_speech.utterances import Utterances

CARD = ModelCard("recogniser", "noise", {"sample_rate": 16_000, "decoder": "open"}, {}, {}, {})


@pytest.fixture(scope="module")
def data() -> Utterances:
    rng = np.random.default_rng(5)
    lengths = rng.integers(1601, 16_001, 13)
    return Utterances(
        samples=rng.integers(-9973, 9973, lengths.sum()).astype(np.int16),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        ids=[f"u{i}" for i in range(13)],
        texts=["YES", "NO NO"] * 6 + ["NO"],
        speakers=[""] * 13,
        splits=["train"] * 6 + ["valid"] * 7,
        sample_rate=16_000,
        name="noise",
        fingerprint="",
        source="",
    )


@pytest.fixture(scope="module")
def decoder(data: Utterances) -> Decoder:
    return Decoder(DecoderSettings(kind="open", order=0, width=5), Vocabulary.of(data.texts), data.texts)


@pytest.fixture(scope="module")
def model(decoder: Decoder) -> Recogniser:
    torch.manual_seed(3)
    sizes = {"width": 22, "blocks": 1, "heads": 1, "span": 5, "channels": 3, "mels": 19, "decoder_blocks": 1}
    built = recogniser(len(decoder.vocabulary), **sizes, chunk=3, left=7)  # type: ignore[arg-type]
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return built


@pytest.fixture(scope="module")
def folder(model: Recogniser, data: Utterances, decoder: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "noise"
    exporting.export(model, data, decoder, target, CARD)
    return target


@pytest.mark.slow
def test_each_ability_has_its_graph_and_its_proof(folder: Path) -> None:
    card = read_card(folder)
    graphs = {f"{name}.onnx" for name in ("recogniser", "explanation", "rescore", "stream")}
    assert card.files.keys() == {*graphs, "examples.npz", "vocabulary.json"}
    assert card.settings["stream"] == {
        "chunk": 3,
        "hop": 640,
        "lead": 680,
        "window": 2640,
        "memory": [[1, 1, 7, 22], [1, 1, 7, 22], [1, 2, 22]],
    }
    proofs = [card.parity, *(card.parity[name] for name in ("explanation", "rescoring", "stream"))]
    assert all(proof["max_difference"] < 1e-5 for proof in proofs)
    assert card.parity["stream"]["rows"] == 7


@pytest.mark.slow
def test_the_folder_streams(folder: Path, model: Recogniser, data: Utterances) -> None:
    waveform = data.waveform(7)
    stream = read_streamer(folder).open()
    heard = stream.feed(waveform[:999]) + stream.feed(waveform[999:]) + stream.finish()
    batch, lengths = torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])
    spectrogram, frames = model.front_end(batch, lengths)
    expected = model.log_probs(spectrogram, frames, model.streaming)[0][0]
    torch.testing.assert_close(
        torch.from_numpy(np.concatenate([piece.log_probs for piece in heard])), expected, atol=1e-5, rtol=0
    )


@pytest.mark.slow
def test_the_folder_judges(folder: Path, model: Recogniser, data: Utterances, decoder: Decoder) -> None:
    waveform = data.waveform(7)
    encoded, frames = model.encode(*model.front_end(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])))
    rescorer = read_rescorer(folder, decoder.vocabulary, weight=0.3)
    assert rescorer is not None
    [opinion] = rescorer.opinions(["NO"], encoded[0].numpy())
    tokens = torch.tensor([decoder.vocabulary.encode("NO")])
    log_probs = model.transcribed(encoded, frames, tokens)[0]
    expected = sum(log_probs[place, token] for place, token in enumerate([*tokens[0].tolist(), 0]))
    assert float(opinion) == pytest.approx(float(expected), abs=1e-4)
    [judged] = rescorer([Hypothesis("NO", score=-7.0, acoustic=-5.0)], encoded[0].numpy())
    assert judged.score == pytest.approx(-7 + 0.3 * (float(opinion) + 5))


@pytest.mark.slow
def test_a_graph_that_streams_otherwise_is_not_exported(
    model: Recogniser, data: Utterances, decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = StreamTwins.by_graph

    def deaf(twins: StreamTwins, inputs: dict[str, np.ndarray]) -> object:
        answer = told(twins, inputs)
        return {**answer, "log_probs": answer["log_probs"] - 1e-3}

    monkeypatch.setattr(StreamTwins, "by_graph", deaf)
    graphs = exporting._Graphs(tmp_path, {})
    with pytest.raises(ParityError, match="the exported graph is not the model: on 7 inputs"):
        exporting._stream(graphs, model, data, decoder)


def test_favourites_by_hand() -> None:
    changed = changed_favourites("scores")
    want = {"scores": np.array([-1.0, -2.0, -3.0])}
    assert changed(want, {"scores": np.array([-1.5, -2.0, -3.0])}) == 0
    assert changed(want, {"scores": np.array([-2.5, -2.0, -3.0])}) == 1
    assert changed({"scores": np.array([-1.0, -1.00001])}, {"scores": np.array([-1.00001, -1.0])}) == 0
