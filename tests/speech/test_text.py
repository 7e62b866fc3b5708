import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError, NotFound
from headwise_speech.text import Vocabulary, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Don’t stop -- twenty-one! ", "DON'T STOP TWENTY ONE"),
        ("e\N{COMBINING ACUTE ACCENT}te\N{COMBINING ACUTE ACCENT}\tstraße", "ÉTÉ STRASSE"),
        ("rock ' n' roll ''", "ROCK N' ROLL"),
        ("re\N{SOFT HYPHEN}cord\N{ZERO WIDTH SPACE}ing", "RECORDING"),
        ("¿Qué? …", "QUÉ"),
        ("…", ""),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    once = normalise(text)
    assert normalise(once) == once
    assert once == " ".join(once.split())


def test_vocabulary_is_blank_space_and_the_sorted_characters():
    vocabulary = Vocabulary.of(["go on", "on!"])
    assert vocabulary.tokens == ("<blank>", " ", "G", "N", "O")
    assert vocabulary.encode("No, go") == [3, 4, 1, 2, 4]
    assert vocabulary.decode([0, 3, 0, 4, 4, 1, 2]) == "NOO G"
    assert vocabulary.space == 1
    assert len(vocabulary) == 5


@given(st.lists(st.text(), min_size=1))
def test_decoding_undoes_encoding(texts):
    vocabulary = Vocabulary.of(texts)
    for text in texts:
        assert vocabulary.decode(vocabulary.encode(text)) == normalise(text)


def test_vocabulary_survives_its_file(tmp_path):
    vocabulary = Vocabulary.of(["ÅRE", "Å 'N"])
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary
    assert json.loads((tmp_path / "vocabulary.json").read_text("utf-8"))["tokens"] == ["<blank>", *" 'ENRÅ"]


def test_a_character_outside_is_named():
    with pytest.raises(InputError, match=r"text 'café': 'É' is not among the recogniser's characters ' ACF'"):
        Vocabulary.of(["FAC"]).encode("café")


@pytest.mark.parametrize(
    "tokens", [[], ["A", " "], ["<blank>", "A"], ["<blank>", " ", "AB"], ["<blank>", " ", "A", "A"]]
)
def test_a_wrong_vocabulary_is_refused(tmp_path, tokens):
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps({"tokens": tokens}))
    with pytest.raises(InputError, match=r"vocabulary\.json: not a vocabulary"):
        Vocabulary.load(path)
    with pytest.raises(NotFound):
        Vocabulary.load(tmp_path / "gone.json")


def test_what_the_vocabulary_lacks_cannot_be_written() -> None:
    vocabulary = Vocabulary.of(["one two"])
    assert vocabulary.writable("Two x one, KW") == "TWO ONE W"
    assert vocabulary.encode(vocabulary.writable("k")) == []
