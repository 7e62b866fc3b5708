import torch

from headwise.attention import Coordinates
from headwise_recsys.model import QueryTime


def test_intervals_are_told_apart_by_hand() -> None:
    vectors = QueryTime(3)
    with torch.no_grad():
        vectors.table.copy_(torch.arange(300).view(100, 3))
    waits = torch.tensor([[0, 1, 2, 3, 6, 7, 60, 3600, 86_400, 31_536_000, 2**40, -5]])
    when = torch.full_like(waits, 1_000_000_000)
    at = Coordinates(torch.zeros_like(waits), torch.ones_like(waits), when)
    buckets = vectors(when + waits, at)[0, :, 0] / 3
    # 4 log2(1 + d), whole: a second 4, a minute 23, an hour 47, a day 65; the last from a year on, and before 0 as 0.
    assert buckets.tolist() == [0, 4, 6, 8, 11, 12, 23, 47, 65, 99, 99, 0]


def test_it_says_nothing_before_it_has_learned() -> None:
    at = Coordinates(*(torch.zeros(1, 2, dtype=torch.long) for _ in range(3)))
    assert not QueryTime(3)(torch.tensor([[7, 9000]]), at).any()
