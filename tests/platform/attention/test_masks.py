import math
from copy import deepcopy
from functools import reduce
from operator import and_, or_

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.attention import Coordinates, View, causal, chunk, every, leading, rows, same_segment, window

RULES = st.one_of(
    st.just(causal),
    st.just(same_segment),
    st.builds(chunk, st.integers(1, 7), st.integers(0, 11)),
    st.builds(window, st.integers(0, 11), st.integers(0, 5)),
    st.builds(every, st.integers(1, 5)),
    st.builds(leading, st.integers(1, 3)),
)
COMPOSED = st.recursive(
    RULES, lambda rules: st.builds(lambda join, a, b: join(a, b), st.sampled_from([and_, or_]), rules, rules)
)
PLACES = st.tuples(st.integers(0, 41), st.integers(0, 3))


def place(position, segment=1):
    return Coordinates(torch.tensor([[position]]), torch.tensor([[segment]]), torch.tensor([[0]]))


def seen(mask, time):
    """The keys that each query sees, as text: one line a query."""
    visible = View(rows(torch.tensor([time]), time), mask).visible[0, 0]
    return ["".join("x" if key else "." for key in query) for query in visible.tolist()]


def test_causal_by_hand():
    assert seen(causal, 3) == ["x..", "xx.", "xxx"]


def test_chunk_by_hand():
    assert seen(chunk(2, left=1), 5) == ["xx...", "xx...", ".xxx.", ".xxx.", "...xx"]
    assert seen(chunk(3, left=0), 5) == ["xxx..", "xxx..", "xxx..", "...xx", "...xx"]


def test_chunks_of_two_rules_are_those_that_both_respect():
    assert (chunk(4, left=1) & same_segment).chunk == (same_segment & chunk(4, left=1)).chunk == 4
    assert (chunk(4, left=1) & chunk(6, left=1)).chunk == (chunk(4, left=1) | chunk(6, left=1)).chunk == 2
    assert (causal & same_segment).chunk == 0


def test_window_by_hand():
    assert seen(window(1), 4) == ["x...", "xx..", ".xx.", "..xx"]
    assert seen(window(0, ahead=2), 4) == ["xxx.", ".xxx", "..xx", "...x"]
    assert seen(window(3) & every(2), 6) == ["x.....", ".x....", "x.x...", ".x.x..", "..x.x.", "...x.x"]


def test_leading_tokens_see_all_and_are_seen_by_all():
    assert seen(window(1) | leading(1), 5) == ["xxxxx", "xx...", "xxx..", "x.xx.", "x..xx"]
    assert seen(causal & (window(1) | leading(1)), 5) == ["x....", "xx...", "xxx..", "x.xx.", "x..xx"]


def test_the_same_rule_twice_is_one_rule():
    both = causal & same_segment
    assert both & same_segment is both
    assert causal & causal is causal
    assert set((both & window(3)).terms) > {causal, same_segment}
    either = causal | same_segment
    assert either.terms == (either,)


def test_same_segment_by_hand():
    nothing = torch.zeros(1, 5, dtype=torch.long)
    at = Coordinates(nothing, torch.tensor([[1, 1, 2, 0, 0]]), nothing)
    visible = View(at, same_segment).visible[0, 0].int().tolist()
    assert visible == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


@given(COMPOSED, PLACES, PLACES)
def test_no_rule_reaches_further_than_it_says(mask, query, key):
    if mask.sees(place(*query), place(*key)) and min(query[0], key[0]) >= mask.leading:
        assert -mask.ahead <= query[0] - key[0] <= mask.back
        assert (query[0] - key[0]) % max(1, mask.stride) == 0


@given(st.integers(1, 7), st.integers(0, 11))
@settings(max_examples=20)
def test_chunks_reach_as_far_as_they_say(size, left):
    mask, first, last = chunk(size, left), place(5 * size), place(6 * size - 1)  # of one chunk
    assert mask.sees(last, place(6 * size - 1 - mask.back))
    assert not mask.sees(last, place(6 * size - 2 - mask.back)) or 6 * size - 2 - mask.back < 0
    assert mask.sees(first, place(5 * size + mask.ahead))
    assert not mask.sees(first, place(5 * size + mask.ahead + 1))


@given(RULES, RULES, PLACES, PLACES)
def test_rules_compose(one, other, query, key):
    at, of = place(*query), place(*key)
    assert bool((one & other).sees(at, of)) == bool(one.sees(at, of) and other.sees(at, of))
    assert bool((one | other).sees(at, of)) == bool(one.sees(at, of) or other.sees(at, of))


def test_reach_composes():
    near, far = chunk(2, left=3), chunk(5, left=7)
    assert (near.back, near.ahead, far.back, far.ahead) == (4, 1, 11, 4)
    assert ((near & far).back, (near & far).ahead) == (4, 1)
    assert ((near | far).back, (near | far).ahead) == (11, 4)
    assert ((causal & far).back, (causal & far).ahead) == (11, 0)
    assert ((causal | far).back, (causal | far).ahead) == (math.inf, 4)


def test_names_are_for_people():
    assert repr(causal & (same_segment | chunk(2, left=3))) == "causal & (same segment | chunk(2, left=3))"


def test_visible_asks_about_each_query_and_each_key(packed, pairs):
    of = rows(torch.tensor([11, 2, 7]), 13)
    mask = reduce(and_, [causal, same_segment, chunk(3, left=5)])
    visible = View(packed, mask, of).visible
    assert visible.shape == (3, 1, 17, 13)
    assert torch.equal(visible[:, 0], pairs(mask, packed, of))


def test_the_fast_path_is_for_nothing_but_causal(padded):
    assert View(padded, causal).is_causal
    assert not View(padded, causal & same_segment).is_causal
    assert not View(padded, same_segment).is_causal
    assert not View(
        padded, causal, rows(torch.tensor([17, 1, 11]), 17)
    ).is_causal  # equal, but not the tokens themselves
    assert View(padded, deepcopy(causal)).is_causal  # as in a copied model


def test_real_is_what_is_not_padding(padded):
    assert View(padded, causal).real.sum(1).tolist() == [17, 1, 11]


@pytest.mark.parametrize("mask", [causal, same_segment, chunk(2, left=3)], ids=repr)
def test_a_rule_cannot_be_changed(mask):
    with pytest.raises(AttributeError, match="cannot assign to field 'ahead'"):
        mask.ahead = 5
