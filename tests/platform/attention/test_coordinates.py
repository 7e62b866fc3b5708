import torch

from headwise.attention import rows


def test_rows_by_hand():
    at = rows(torch.tensor([3, 0, 1]), 3)
    assert at.position.tolist() == [[0, 1, 2]] * 3
    assert at.segment.tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert at.time.tolist() == [[0, 0, 0]] * 3


def test_rows_go_on_where_they_were():
    at = rows(torch.tensor([2, 1]), 2, start=torch.tensor([5, 0]))
    assert at.position.tolist() == [[5, 6], [0, 1]]
    assert at.segment.tolist() == [[1, 1], [1, 0]]


def test_then_joins_along_time():
    first, later = rows(torch.tensor([2, 1]), 2), rows(torch.tensor([1, 0]), 3)
    joined = first.then(later)
    assert joined.position.tolist() == [[0, 1, 0, 1, 2]] * 2
    assert joined.segment.tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]
    assert torch.equal(joined.map(lambda c: c[:, :2]).segment, first.segment)
