import pytest
import torch

from headwise.attention import Cache, empty_cache, rows

BATCH, KV_HEADS, HEAD_WIDTH = 2, 3, 5


def cache(first, slots):
    """Slots that hold their own number."""
    number = torch.arange(first, first + slots)
    at = rows(torch.tensor([slots] * BATCH), slots).map(lambda c: c + number)
    key = number[:, None].expand(BATCH, KV_HEADS, slots, HEAD_WIDTH).float()
    return Cache(key, -key, at)


@pytest.mark.parametrize("slots", [0, 1, 7, 11])
def test_remembers_the_latest(slots):
    kept = cache(0, 7).then(cache(7, 4)).last(slots)
    expected = list(range(11 - slots, 11))
    assert kept.key.shape == kept.value.shape == (BATCH, KV_HEADS, slots, HEAD_WIDTH)
    assert kept.key[1, 2, :, 4].tolist() == expected
    assert kept.value[0, 0, :, 0].tolist() == [-number for number in expected]
    assert (kept.at.segment[1] - 1).tolist() == kept.at.time[0].tolist() == expected


def test_remembers_no_more_than_there_is():
    assert cache(0, 7).last(11).key.shape[2] == 7


def test_an_empty_cache_holds_no_token():
    empty = empty_cache(BATCH, KV_HEADS, 7, HEAD_WIDTH, dtype=torch.double)
    assert empty.key.shape == empty.value.shape == (BATCH, KV_HEADS, 7, HEAD_WIDTH)
    assert empty.key.dtype == torch.double
    assert [coordinate.tolist() for coordinate in empty.at] == [[[0] * 7] * BATCH] * 3
    assert (
        len({tensor.data_ptr() for tensor in (empty.key, empty.value, *empty.at)}) == 5
    )  # an ONNX graph wants five inputs
