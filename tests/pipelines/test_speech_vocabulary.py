"""What a recogniser writes with is a flag, and its decoder and model follow it."""

import numpy as np
import pytest

from headwise_pipelines.speech.presets import DecoderSettings, SpeechConfig
from headwise_pipelines.speech.train import _words
from headwise_speech.utterances import Utterances

TEXTS = ["ABAB BAB", "BAB", "ABAB ABAB"]


@pytest.fixture(name="data")
def data_fixture() -> Utterances:
    lengths = [160] * 5
    return Utterances(
        samples=np.zeros(sum(lengths), np.int16),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        ids=list("abcde"),
        texts=[*TEXTS, "BAB", "CAB"],
        speakers=[""] * 5,
        splits=["train"] * 3 + ["valid", "test"],
        sample_rate=16_000,
        name="bab",
        fingerprint="",
        source="",
    )


@pytest.mark.parametrize(
    ("unit", "tokens", "unheard"),
    [
        ("characters", (" ", "A", "B"), "C"),
        ("pieces", (" ", "A", "B", "AB", " AB"), "C"),
        ("words", (" ABAB", " BAB"), "CAB"),
    ],
)
@pytest.mark.parametrize("kind", ["greedy", "lexicon", "open"])
def test_a_run_writes_with_what_it_is_told(data, capsys, unit, tokens, unheard, kind) -> None:
    config = SpeechConfig(unit=unit, pieces=6, decoder=DecoderSettings(kind=kind, order=2, bonus=2.0))
    vocabulary, decoder = _words(config, data)
    assert vocabulary.tokens[1:] == tokens
    assert capsys.readouterr().err.splitlines() == [f"in no training text, and so always heard wrong: {unheard}"]
    spelled = vocabulary.encode("ABAB BAB")
    rows = np.full((2 * len(spelled), len(vocabulary)), 1e-4)
    rows[np.arange(len(rows)), [token for one in spelled for token in (one, 0)]] = 1.0
    assert decoder.build()(np.log(rows / rows.sum(axis=1, keepdims=True))).text == "ABAB BAB"
