import math

import pytest
import torch

from headwise.errors import InputError
from headwise_speech.batches import SEEDS, Batch
from headwise_speech.losses import LossSettings, attention_loss, consistency_loss, ctc_loss, views


def transcripts(tokens: list[list[int]], lengths: list[int]) -> Batch:
    nothing = torch.zeros(len(lengths))
    return Batch(nothing[:, None], nothing, torch.tensor(tokens), torch.tensor(lengths), torch.arange(len(lengths)))


def test_ctc_by_hand() -> None:
    # Token 1 of probability 0.3, blank 0.5, two frames: 1 1, 1 -, - 1 = 0.09 + 0.15 + 0.15; one frame cannot hold two tokens.
    log_probs = torch.tensor([0.5, 0.3, 0.2]).log().expand(2, 2, 3)
    loss = ctc_loss(log_probs, torch.tensor([2, 1]), transcripts([[1, 0], [1, 2]], [1, 2]))
    assert float(loss) == pytest.approx(-math.log(0.39) / 3)


def test_attention_by_hand() -> None:
    # One transcript is 1 and the end 0, the other 1 2 and the end: of five places the right ones have .2 .5, .2 .3 .5.
    log_probs = torch.tensor([0.5, 0.2, 0.3]).log().expand(2, 3, 3)
    batch = transcripts([[1, 0], [1, 2]], [1, 2])
    right = -math.log(0.2**2 * 0.5**2 * 0.3) / 5
    assert float(attention_loss(log_probs, batch, 0.0)) == pytest.approx(right)
    even = -math.log(0.5 * 0.2 * 0.3) / 3
    assert float(attention_loss(log_probs, batch, 0.1)) == pytest.approx(0.9 * right + 0.1 * even)


def test_attention_does_not_count_what_follows_the_end() -> None:
    log_probs = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(3)).log_softmax(-1)
    batch = transcripts([[1, 0, 0], [1, 2, 3]], [1, 3])
    changed = log_probs.clone()
    changed[0, 2:] -= 5
    assert float(attention_loss(changed, batch, 0.1)) == float(attention_loss(log_probs, batch, 0.1))


def test_consistency_by_hand() -> None:
    # The first frame counts alone: KL(1/2 1/2 || 1/4 3/4) and back, halved.
    one, other = (torch.tensor([p, 1 - p]).log().expand(1, 2, 2).clone().requires_grad_() for p in (0.5, 0.25))
    loss = consistency_loss(one, other, torch.tensor([1]))
    there = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    back = 0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2)
    assert float(loss.detach()) == pytest.approx((there + back) / 2)
    loss.backward()  # each learns from the other, which stands still
    torch.testing.assert_close(one.grad, torch.tensor([[[-0.125, -0.375], [0, 0]]]))
    torch.testing.assert_close(other.grad, torch.tensor([[[-0.25, -0.25], [0, 0]]]))


def test_views_are_the_same_utterances_masked_otherwise() -> None:
    batch = transcripts([[1, 0], [1, 2]], [1, 2])
    twice = views(batch)
    for part, whole in zip(batch, twice, strict=True):
        if part is not batch.seeds:
            assert whole.tolist() == [*part.tolist(), *part.tolist()]
    assert twice.seeds.tolist() == [0, 1, SEEDS, SEEDS + 1]


@pytest.mark.parametrize("name", ["attention", "smoothing", "intermediate"])
def test_shares_must_be_shares(name: str) -> None:
    with pytest.raises(InputError, match=rf"loss.{name} \(1.0\) is a share: from 0 to below 1"):
        LossSettings(**{name: 1.0})


def test_a_weight_must_be_one() -> None:
    with pytest.raises(InputError, match=r"loss.consistency \(-0.2\) must be 0 or more"):
        LossSettings(consistency=-0.2)
