import math

import pytest
import torch

from headwise.errors import InputError
from headwise_speech.augmentation import SpecAugment, change_speed

SEEDS = torch.tensor([11, 13, 17])


def hidden(augment: SpecAugment, frames: list[int], seeds: torch.Tensor = SEEDS) -> torch.Tensor:
    return augment(torch.ones(len(frames), 53, 23), torch.tensor(frames), seeds) == 0


def test_speed_changes_length_and_pitch() -> None:
    tone = torch.sin(2 * math.pi * 440 * torch.arange(16_000) / 16_000)
    fast = change_speed(tone, 1.1)
    assert len(fast) == math.ceil(16_000 / 1.1)
    peak = torch.fft.rfft(fast).abs().argmax() * 16_000 / len(fast)
    assert abs(float(peak) - 440 * 1.1) < 1.5
    assert change_speed(tone, 1.0) is tone


def test_an_utterance_is_masked_alike_beside_any_other() -> None:
    augment = SpecAugment(bands=1, band=7, stretches=2, stretch=11, share=0.5)
    together, alone = hidden(augment, [53, 41, 29]), hidden(augment, [41], SEEDS[1:2])
    assert (together[1, :41] == alone[0, :41]).all()
    assert not (hidden(augment, [53, 41, 29], SEEDS + 1) == together).all()


def test_masks_are_bounded_and_inside_the_utterance() -> None:
    augment = SpecAugment(bands=0, stretches=2, stretch=11, share=0.2)
    for seed in range(50):
        rows = hidden(augment, [29], torch.tensor([seed]))[0].all(1)
        assert not rows[29:].any()
        assert rows.sum() <= 2 * int(0.2 * 29)


def test_nothing_is_hidden_where_nothing_is_asked() -> None:
    assert not hidden(SpecAugment(bands=0, stretches=0), [53, 41, 1]).any()
    assert not hidden(SpecAugment(bands=0, share=0.2), [4, 3, 1]).any()


def test_share_must_be_a_share() -> None:
    with pytest.raises(InputError, match=r"augment.share \(1.5\) must be from 0 to 1"):
        SpecAugment(share=1.5)
