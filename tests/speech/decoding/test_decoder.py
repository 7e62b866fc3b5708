import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headwise.errors import InputError
from headwise_speech.decoding import Decoder, HotWords, greedy, kneser_ney, read_decoder
from headwise_speech.text import Vocabulary

VOCABULARY = Vocabulary.of(["AB"])
ROWS = np.log(np.random.default_rng(0).dirichlet(np.ones(4), 13))
BEAM = {"unit": "word", "width": 7, "weight": 0.7, "bonus": 0.3}
DECODERS = {
    "greedy": Decoder("greedy", VOCABULARY),
    "lexicon": Decoder("lexicon", VOCABULARY, ["A", "BAB"], kneser_ney([["A", "BAB"]], 2), BEAM),
    "bare": Decoder("lexicon", VOCABULARY, ["A", "BAB"], None, BEAM),
    "open": Decoder("open", VOCABULARY, None, kneser_ney([["A", "BAB"]], 2), BEAM),
}


@pytest.mark.parametrize("name", DECODERS)
def test_what_was_written_decodes_alike(tmp_path: Path, name: str) -> None:
    decoder = DECODERS[name]
    decoder.write(tmp_path)
    again = read_decoder(tmp_path, decoder.card)
    hot = HotWords({"B": 6.1}, VOCABULARY)
    assert again(ROWS) == decoder(ROWS)
    assert again(ROWS, 5, hot=hot) == decoder(ROWS, 5, hot=hot)
    assert again.nbest(ROWS, count=3) == decoder.nbest(ROWS, count=3)
    assert again(ROWS, hot=hot) != again(ROWS)


def test_greedy_is_a_beam_only_where_something_is_expected() -> None:
    decoder = DECODERS["greedy"]
    assert decoder(ROWS) == greedy(ROWS, VOCABULARY)
    assert "ABBA" in decoder(ROWS, hot=HotWords({"ABBA": 30.0}, VOCABULARY)).text


def test_the_best_of_several_is_what_a_call_answers() -> None:
    for decoder in DECODERS.values():
        for seed in range(13):
            rows = np.log(np.random.default_rng(seed).dirichlet(np.ones(4), 11))
            found = decoder.nbest(rows, count=5)
            assert found[0].text == decoder(rows).text
            assert len({each.text for each in found}) == len(found) <= 5


def test_folders_of_an_earlier_headwise_are_refused(tmp_path: Path) -> None:
    DECODERS["bare"].write(tmp_path)
    (tmp_path / "pairs.json").write_text(json.dumps({"counts": {}, "pairs": {}}))
    with pytest.raises(
        InputError, match=r"pairs.json: the language model of an earlier headwise; export the model again"
    ):
        read_decoder(tmp_path, {"decoder": "lexicon"})
    with pytest.raises(InputError, match=r"settings.decoder is 'oracle', not greedy, lexicon, open; export again"):
        read_decoder(tmp_path, {"decoder": "oracle"})


def test_decoding_loads_no_torch() -> None:
    code = (
        "import sys, headwise_speech.decoding, headwise_speech.audio, headwise_speech.utterances; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'lightning', 'polars', 'mlflow', 'rich')))"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
