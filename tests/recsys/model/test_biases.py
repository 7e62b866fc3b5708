import torch

from headwise.attention import Coordinates
from headwise_recsys.model import PositionAndTime


def test_it_is_the_sum_by_hand() -> None:
    bias = PositionAndTime(2, distance=3)
    with torch.no_grad():
        bias.position.table.copy_(torch.arange(14).view(7, 2))
        bias.time.table.copy_(100 * torch.arange(96).view(48, 2))
    place, none = torch.tensor([[0, 1, 7]]), torch.ones(1, 3, dtype=torch.long)
    at = Coordinates(place, none, torch.tensor([[1_000_000, 1_000_001, 1_000_008]]))
    pairs = bias(at.map(lambda c: c[:, :, None]), at.map(lambda c: c[:, None, :]))
    assert pairs.shape == (1, 2, 3, 3)
    # Item 2 is 6 places and 7 seconds behind item 1: the farthest distance, 3 + 3 of the table; bucket 2 log2(1 + 7) = 6.
    assert pairs[0, :, 2, 1].tolist() == [12 + 1200, 13 + 1300]
    assert pairs[0, :, 1, 0].tolist() == [8 + 400, 9 + 500]
