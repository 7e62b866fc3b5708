import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwise.attention import rows
from headwise.attention.kernels._blocks import flagged_places, gather, layout, locate, most_flagged, restore

NOTHING = torch.zeros(())


def test_by_hand():
    plan = layout(5, 2, back=1, ahead=1, like=NOTHING)
    assert plan.queries.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert plan.keys.tolist() == [[-1, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6]]
    assert plan.order.tolist() == [0, 1, 2, 3, 4]


def test_strided_rows_by_hand():
    plan = layout(7, 2, back=5, stride=3, like=NOTHING)  # 5 back holds one multiple of 3
    assert plan.queries.tolist() == [[0, 3], [1, 4], [2, 5], [6, 9], [7, 10], [8, 11]]
    assert plan.keys[3].tolist() == [3, 6, 9]
    assert plan.order.tolist() == [0, 2, 4, 1, 3, 5, 6]


@given(st.integers(1, 41), st.integers(1, 9), st.integers(0, 19), st.integers(0, 13), st.integers(1, 5))
def test_every_query_stands_once_and_beside_all_that_it_reaches(time, size, back, ahead, stride):
    plan = layout(time, size, back=back, ahead=ahead, stride=stride, like=NOTHING)
    places = plan.queries.flatten()
    assert places[plan.order].tolist() == list(range(time))
    for block, place in zip(plan.keys, plan.queries, strict=True):
        for query in place[place < time].tolist():
            reached = {key for key in range(query - back, query + ahead + 1) if (query - key) % stride == 0}
            assert reached <= set(block.tolist())


@given(st.integers(1, 29), st.integers(1, 9), st.integers(1, 4))
def test_what_was_gathered_is_restored(time, size, stride):
    plan, heads = layout(time, size, stride=stride, like=NOTHING), torch.randn(3, 2, time, 5)
    assert torch.equal(restore(gather(heads, plan.queries), plan, 3), heads)


def test_places_outside_of_the_row_belong_to_no_segment():
    at = rows(torch.tensor([5, 3]), 5)
    here = locate(at, layout(5, 3, back=2, like=NOTHING).keys)
    assert here.segment.tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 0], [0, 0, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert here.position[1].tolist()[:4] == [1, 2, 3, 4]


@pytest.mark.parametrize("most", [2, 4])
def test_flagged_places_come_in_order_and_differ(most):
    flag = torch.tensor([[False, True, False, True, False], [False] * 5])
    places = flagged_places(flag, most)
    assert places[0, :2].tolist() == [1, 3]
    assert all(len(set(row)) == most for row in places.tolist())
    assert most_flagged(5, 1, flag) == 2
