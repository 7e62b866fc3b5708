import itertools
import math
from typing import NamedTuple

import pytest
import torch

from headwise.transformer import beam_search, greedy

VOCAB, LONGEST, END, BATCH = 5, 3, 2, 7


class Past(NamedTuple):
    """A nest as models have it, of all that `step` must find again in the right row."""

    row: torch.Tensor
    written: dict


@pytest.fixture
def start():
    return Past(torch.arange(BATCH), {"tokens": [torch.empty(BATCH, 0, dtype=torch.long)]})


@pytest.fixture
def begin():
    return torch.zeros(BATCH, dtype=torch.long)


@pytest.fixture
def step():
    """A model that knows nothing but a random table: what follows each row's every past."""
    table = torch.randn(BATCH, *[VOCAB] * LONGEST, VOCAB, generator=torch.Generator().manual_seed(7)).mul(2)
    table = table.log_softmax(-1).double()

    def step(tokens, past):
        written = torch.cat([past.written["tokens"][0], tokens[:, None]], 1)
        padded = torch.nn.functional.pad(written[:, 1:], (0, LONGEST - written.shape[1] + 1))
        return table[past.row, *padded.T], Past(past.row, {"tokens": [written]})

    return step


def exhaustive(step, row, alpha):
    """All sequences of a row with their scores, the best first."""
    found = []
    for length in range(1, LONGEST + 1):
        for tokens in itertools.product(range(VOCAB), repeat=length):
            if END in tokens[:-1] or (tokens[-1] != END and length < LONGEST):
                continue
            state, last, total = Past(torch.tensor([row]), {"tokens": [torch.empty(1, 0, dtype=torch.long)]}), 0, 0.0
            for token in tokens:
                log_probs, state = step(torch.tensor([last]), state)
                total, last = total + float(log_probs[0, token]), token
            found.append((total / ((5 + length) / 6) ** alpha, tokens))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_a_wide_beam_is_an_exhaustive_search(step, start, begin, alpha):
    wide = VOCAB**LONGEST
    got = beam_search(step, start, begin, end=END, longest=LONGEST, beams=wide, alpha=alpha, best=11)
    for row in range(BATCH):
        for place, (score, tokens) in enumerate(exhaustive(step, row, alpha)[:11]):
            assert got.tokens[row, place].tolist() == [*tokens, *[END] * (LONGEST - len(tokens))]
            assert got.scores[row, place].item() == pytest.approx(score)
            assert got.lengths[row, place] == len(tokens) - (tokens[-1] == END)


def test_one_beam_is_greedy(step, start, begin):
    one = beam_search(step, start, begin, end=END, longest=LONGEST, beams=1, alpha=0.0)
    for got, expected in zip(one, greedy(step, start, begin, end=END, longest=LONGEST), strict=True):
        torch.testing.assert_close(got, expected)


def test_greedy_takes_the_likeliest_each_time(step, start, begin):
    tokens, lengths, scores = greedy(step, start, begin, end=END, longest=LONGEST)
    assert tokens.shape[:2] == (BATCH, 1)
    for row in range(BATCH):
        state, last, total, written = (
            Past(torch.tensor([row]), {"tokens": [torch.empty(1, 0, dtype=torch.long)]}),
            0,
            0,
            [],
        )
        while len(written) < LONGEST and END not in written:
            log_probs, state = step(torch.tensor([last]), state)
            last = int(log_probs.argmax())
            total, written = total + float(log_probs.max()), [*written, last]
        assert tokens[row, 0].tolist()[: len(written)] == written
        assert lengths[row, 0] == len([t for t in written if t != END])
        assert scores[row, 0].item() == pytest.approx(total)


@pytest.mark.parametrize("beams", [2, 3, 4])
def test_batch_mates_cannot_change_the_answer(step, start, begin, beams):
    together = beam_search(step, start, begin, end=END, longest=LONGEST, beams=beams, best=2)
    for row in range(BATCH):
        own = slice(row, row + 1)
        alone = beam_search(
            step,
            Past(start.row[own], {"tokens": [start.written["tokens"][0][own]]}),
            begin[own],
            end=END,
            longest=LONGEST,
            beams=beams,
            best=2,
        )
        assert torch.equal(alone.lengths, together.lengths[own])
        torch.testing.assert_close(alone.scores, together.scores[own])
        time = alone.tokens.shape[2]
        assert torch.equal(alone.tokens, together.tokens[own, :, :time])
        assert (together.tokens[own, :, time:] == END).all()


def chain(rows):
    """A model whose next token depends on the last one alone."""
    table = torch.tensor(rows, dtype=torch.double).log()
    return lambda tokens, state: (table[tokens], state)


# From 0: end with 0.4, or on to 1 with 0.6, and from there the end with 0.6: 0.36 in all.
SHORT_OR_LONG = [[0, 0.6, 0.4], [0.4, 0, 0.6], [0, 0, 1]]


def test_the_length_penalty_by_hand():
    step, begin = chain(SHORT_OR_LONG), torch.tensor([0])
    options = {"end": 2, "longest": 2, "beams": 2, "best": 2}
    plain = beam_search(step, (), begin, alpha=0.0, **options)
    assert plain.tokens[0].tolist() == [[2, 2], [1, 2]]
    assert plain.scores[0].tolist() == pytest.approx([math.log(0.4), math.log(0.36)])
    forgiving = beam_search(step, (), begin, alpha=1.0, **options)
    assert forgiving.tokens[0].tolist() == [[1, 2], [2, 2]]
    assert forgiving.scores[0].tolist() == pytest.approx([math.log(0.36) / (7 / 6), math.log(0.4)])
    assert forgiving.lengths[0].tolist() == [1, 0]


def test_a_beam_finds_what_greedy_misses():
    # Greedy goes to 1 (0.6), from where nothing is likely; over 3 (0.4) the end is certain.
    step = chain([[0, 0.6, 0, 0.4], [0.4, 0, 0.5, 0.1], [0, 0, 1, 0], [0, 0, 1, 0]])
    begin, options = torch.tensor([0]), {"end": 2, "longest": 2}
    assert greedy(step, (), begin, **options).tokens.tolist() == [[[1, 2]]]
    best = beam_search(step, (), begin, beams=2, alpha=0.0, **options)
    assert best.tokens.tolist() == [[[3, 2]]]
    assert best.scores.item() == pytest.approx(math.log(0.4))


def test_stops_when_all_have_ended():
    sizes = []

    def step(tokens, state):
        sizes.append(len(tokens))
        return torch.tensor([0.0, -math.inf]).expand(len(tokens), 2), state

    begin = torch.tensor([1, 1, 1])
    assert greedy(step, [], begin, end=0, longest=100).tokens.shape == (3, 1, 1)
    assert beam_search(step, [], begin, end=0, longest=100, beams=1).tokens.shape == (3, 1, 1)
    assert sizes == [3, 3]


def test_what_does_not_exist_scores_minus_infinity():
    answer = beam_search(chain([[0, 1], [0, 1]]), (), torch.tensor([0]), end=1, longest=3, beams=3, best=3)
    assert answer.scores.tolist() == [[0.0, -math.inf, -math.inf]]


@pytest.mark.parametrize("best", [0, 4])
def test_no_more_answers_than_beams(best):
    with pytest.raises(ValueError, match=rf"best \({best}\) must be at least 1 and at most beams \(3\)"):
        beam_search(chain(SHORT_OR_LONG), (), torch.tensor([0]), end=2, longest=2, beams=3, best=best)
