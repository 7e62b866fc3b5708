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
    "tokens",
    [[], ["A", " "], ["<blank>", "A"], ["<blank>", " ", "A B"], ["<blank>", " ", ""], ["<blank>", " ", "A", "A"]],
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


def test_whole_words() -> None:
    vocabulary = Vocabulary.of_words(["two one", "One!"])
    assert vocabulary.tokens == ("<blank>", " ONE", " TWO")
    assert vocabulary.space is None
    assert vocabulary.encode("one two one") == [1, 2, 1]
    assert vocabulary.decode([0, 1, 0, 2, 1]) == "ONE TWO ONE"
    assert vocabulary.writable("one three two") == "ONE TWO"
    with pytest.raises(InputError, match=r"'THREE' is not among the recogniser's words \(2\); build"):
        vocabulary.encode("three")


def test_pieces_by_hand() -> None:
    # Of ABAB, ABC, B: the pairs " A" and "AB" stand twice, "AB" thrice, so AB first; then " AB" twice, and no more pair does.
    vocabulary = Vocabulary.of_pieces(["abab abc", "b"], 99)
    assert vocabulary.tokens == ("<blank>", " ", "A", "B", "C", "AB", " AB")
    assert vocabulary.merges == (("A", "B"), (" ", "AB"))
    assert vocabulary.written("abab b cab") == ["▁AB", "AB", "▁", "B", "▁", "C", "AB"]
    assert vocabulary.written("b") == ["B"]
    assert Vocabulary.of_pieces(["abab abc"], 6).tokens[5:] == ("AB",)


@given(st.lists(st.text("ABC ", max_size=23), min_size=1, max_size=7), st.integers(0, 17))
def test_pieces_spell_what_they_were_made_of(texts, more):
    vocabulary = Vocabulary.of_pieces(texts, 5 + more)
    for text in texts:
        assert vocabulary.decode(vocabulary.encode(text)) == normalise(text)
        assert len(vocabulary.encode(text)) <= len(normalise(text))


def test_pieces_survive_their_file(tmp_path):
    vocabulary = Vocabulary.of_pieces(["BANANA BANDANA"], 11)
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


def test_texts_of_another_form_are_refused(tmp_path) -> None:
    path = tmp_path / "vocabulary.json"
    Vocabulary.of(["A"]).save(path)
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "form": "lower case"}))
    with pytest.raises(InputError, match=r"its texts have the form 'lower case', this headwise makes 'NFC, upper case"):
        Vocabulary.load(path)
    path.write_text(json.dumps({"tokens": content["tokens"]}))
    assert Vocabulary.load(path) == Vocabulary.of(["A"])


def test_merges_must_make_tokens() -> None:
    with pytest.raises(InputError, match="are merged into what is no token"):
        Vocabulary(("<blank>", " ", "A", "B"), (("A", "B"),))
