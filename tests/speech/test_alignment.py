import warnings
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise_speech.alignment import word_frames
from headwise_speech.decoding import PrefixBeam, greedy
from headwise_speech.text import BLANK, Vocabulary

VOCABULARY = Vocabulary((BLANK, " ", "A", "B", "C"))
LETTERS = "- ABC"  # "-" is the blank


def spoken(alignment: str, sharp: float = 0.9) -> np.ndarray:
    probabilities = np.full((len(alignment), len(LETTERS)), (1 - sharp) / (len(LETTERS) - 1))
    probabilities[np.arange(len(alignment)), [LETTERS.index(token) for token in alignment]] = sharp
    return np.log(probabilities)


@pytest.mark.parametrize(
    ("alignment", "text", "frames"),
    [
        ("AB", "AB", [("AB", 0, 2)]),
        ("--A-B--", "AB", [("AB", 2, 5)]),
        ("AAB BBC", "AB BC", [("AB", 0, 3), ("BC", 4, 7)]),
        ("A-A", "AA", [("AA", 0, 3)]),
        ("-AA--A-", "AA", [("AA", 1, 6)]),
        ("A A", "A A", [("A", 0, 1), ("A", 2, 3)]),
        ("  A-  - B ", "A B", [("A", 2, 3), ("B", 8, 9)]),  # spaces that say nothing, as decoders drop them
        ("- -AB- - -C- -", "AB C", [("AB", 3, 5), ("C", 10, 11)]),
        ("A-B-C", "A", [("A", 0, 1)]),  # what a closed list of words makes of it
    ],
)
def test_by_hand(alignment: str, text: str, frames: list[tuple[str, int, int]]) -> None:
    assert [word[:3] for word in word_frames(spoken(alignment), text, VOCABULARY)] == frames


def test_a_long_text() -> None:
    alignment = "-AB- " * 67  # 200 characters; more states than a small integer counts
    words = word_frames(spoken(alignment), "AB " * 66 + "AB", VOCABULARY)
    assert [word[:3] for word in words] == [("AB", 5 * number + 1, 5 * number + 3) for number in range(67)]


def test_ties_move_on_as_early_as_they_can() -> None:
    even = np.log(np.full((7, 5), 0.2))
    assert [word[:3] for word in word_frames(even, "A", VOCABULARY)] == [("A", 0, 1)]
    assert [word[:3] for word in word_frames(even, "AA B", VOCABULARY)] == [("AA", 0, 3), ("B", 4, 5)]


@pytest.mark.parametrize("frames", [0, 3])
def test_no_text_has_no_words(frames: int) -> None:
    assert word_frames(np.log(np.full((frames, 5), 0.2)), "", VOCABULARY) == []


@given(st.text("AB ", min_size=1, max_size=4).filter(str.strip), st.integers(1, 6), st.integers(0, 10**6))
def test_it_is_the_best_of_all_alignments(text: str, frames: int, seed: int) -> None:
    text = " ".join(text.split())
    log_probs = np.random.default_rng(seed).standard_normal((frames, 5))
    found = [
        (sum(log_probs[frame, token] for frame, token in enumerate(path)), path)
        for path in product(range(4), repeat=frames)  # C is in none of the texts
        if read(path) == text
    ]
    if not found:
        with pytest.raises(InputError, match="no alignment"):
            word_frames(log_probs, text, VOCABULARY)
        return
    _, best = max(found)
    assert [word[:3] for word in word_frames(log_probs, text, VOCABULARY)] == spans(best, text)


def read(path: tuple[int, ...]) -> str:
    merged = [token for place, token in enumerate(path) if place == 0 or token != path[place - 1]]
    return " ".join(VOCABULARY.decode(merged).split())


def spans(path: tuple[int, ...], text: str) -> list[tuple[str, int, int]]:
    letters = [frame for frame, token in enumerate(path) if token > 1]
    starts, words = [], text.split()
    for place, frame in enumerate(letters):
        if place == 0 or 1 in path[letters[place - 1] : frame]:
            starts.append(place)
    groups = [letters[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return [(word, group[0], group[-1] + 1) for word, group in zip(words, groups, strict=True)]


@given(st.integers(0, 10**6), st.integers(1, 23))
def test_what_a_decoder_heard_has_frames_in_order(seed: int, frames: int) -> None:
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.full(5, 0.3), frames) + 1e-9)
    for decode in (lambda rows: greedy(rows, VOCABULARY), PrefixBeam(VOCABULARY, words=["AB", "C", "CAB"], width=5)):
        text = decode(log_probs).text
        words = word_frames(log_probs, text, VOCABULARY)
        assert [word for word, *_ in words] == text.split()
        edges = [edge for _, first, end, _ in words for edge in (first, end)]
        assert edges == sorted(edges)
        assert all(first < end <= frames for _, first, end, _ in words)


def test_texts_without_an_alignment() -> None:
    with pytest.raises(InputError, match="text of 2 tokens, 'AA': it has no alignment to 2 frames"):
        word_frames(spoken("AA"), "AA", VOCABULARY)
    with pytest.raises(InputError, match="'X' is not among the recogniser's characters"):
        word_frames(spoken("AA"), "AX", VOCABULARY)


def test_words_that_are_tokens_need_no_space() -> None:
    words = Vocabulary((BLANK, " AB", " C", " D"))
    rows = np.log(np.eye(4)[[0, 1, 1, 0, 0, 2, 0, 2]] + 1e-6)
    assert [word[:3] for word in word_frames(rows, "AB C C", words)] == [("AB", 1, 3), ("C", 5, 6), ("C", 7, 8)]


def test_pieces_of_words() -> None:
    pieces = Vocabulary((BLANK, " ", "A", "B", " A", " AB"), ((" ", "A"), (" A", "B")))
    rows = np.log(np.eye(6)[[0, 4, 4, 2, 1, 3, 0, 5]] + 1e-6)
    assert [word[:3] for word in word_frames(rows, "AA B AB", pieces)] == [("AA", 1, 4), ("B", 5, 6), ("AB", 7, 8)]


def test_how_clearly_a_word_was_heard_by_hand() -> None:
    rows = np.log(np.array([[0.1, 0.1, 0.8, 0.0, 0.0], [0.2, 0.2, 0.6, 0.0, 0.0], [0.5, 0.1, 0.1, 0.2, 0.1]]) + 1e-12)
    [word] = word_frames(rows, "AB", VOCABULARY)
    assert word.heard == pytest.approx((0.8 * 0.2) ** 0.5)  # A in its best frame of two, B in its only one


@pytest.mark.parametrize("seed", range(7))
def test_it_is_torchaudios_forced_alignment_where_every_word_is_a_token(seed: int) -> None:
    torch, functional = pytest.importorskip("torch"), pytest.importorskip("torchaudio.functional")
    words = Vocabulary((BLANK, " AB", " C", " D"))
    rng = np.random.default_rng(seed)
    rows = np.log(rng.dirichlet(np.ones(4), 31)).astype(np.float32)
    tokens = rng.integers(1, 4, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of its end in torchaudio 2.9
        path, _ = functional.forced_align(torch.from_numpy(rows[None]), torch.from_numpy(tokens[None]), blank=0)
    text = words.decode(tokens.tolist())
    found = word_frames(rows, text, words)
    assert [(word[1], word[2]) for word in found] == runs(path[0].tolist())


def runs(path: list[int]) -> list[tuple[int, int]]:
    """First frame and end of every run of one token."""
    edges = [0, *(at for at in range(1, len(path)) if path[at] != path[at - 1]), len(path)]
    return [(start, end) for start, end in pairwise(edges) if path[start]]
