import pytest
import torch

from headwise.attention import chunk, same_segment
from headwise_speech.frontend import HOP
from headwise_speech.model import REDUCTION, Recogniser, Subsampling, recogniser

VOCAB, WIDTH, MELS = 13, 22, 19


def build(**settings: object) -> Recogniser:
    torch.manual_seed(3)
    sizes = {"width": WIDTH, "blocks": 2, "heads": 1, "span": 5, "channels": 3, "mels": MELS}
    return recogniser(VOCAB, **(sizes | settings)).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model() -> Recogniser:
    return build()


def noise(batch: int, samples: int, seed: int = 5) -> torch.Tensor:
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def test_log_probs_are_log_probabilities(model: Recogniser) -> None:
    log_probs, frames = model(noise(2, 7001), torch.tensor([7001, 3001]))
    # 7001 samples: 43 hops, 44 frames, 22, 11; 3001: 18 hops, 19 frames, 10, 5.
    assert frames.tolist() == [11, 5]
    assert log_probs.shape == (2, 11, VOCAB)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 11))


@torch.no_grad()
@pytest.mark.parametrize("samples", [0, 1, 161, 641, 3001, 6997])
def test_padding_and_batch_mates_change_nothing(model: Recogniser, samples: int) -> None:
    waveform = noise(1, samples)
    alone, frames = model(waveform, torch.tensor([samples]))
    mates = noise(2, 7919, seed=7)
    row = torch.cat([waveform, noise(1, 7919 - samples, seed=11)], 1)  # padding that is not even silent
    together, lengths = model(torch.cat([mates, row]), torch.tensor([7919, 1601, samples]))
    assert lengths[2] == frames[0]
    torch.testing.assert_close(together[2, : frames[0]], alone[0, : frames[0]], atol=1e-5, rtol=0)


@torch.no_grad()
def test_subsampling_by_hand() -> None:
    subsampling = Subsampling(1, 1, 1)
    for convolution in (subsampling.first, subsampling.second):
        convolution.weight.fill_(1)
        convolution.bias.zero_()
    subsampling.project.weight.fill_(1)
    subsampling.project.bias.zero_()
    spectrogram = torch.tensor([[1.0, 2, 3, 4, 5, 6, 99]])[..., None]
    tokens, frames = subsampling(spectrogram, torch.tensor([6]))
    # Sums of three at every second frame: 0+1+2, 2+3+4, 4+5+6, and 6+0+0 that belongs to no frame; then 0+3+9, 9+15+0.
    assert frames.tolist() == [2]
    assert tokens[0, :2, 0].tolist() == [12, 24]


@torch.no_grad()
def test_a_chunked_model_does_not_hear_what_comes_later() -> None:
    size = 3
    model = build(mask=same_segment & chunk(size, left=5))
    waveform = noise(1, 7919)
    changed = waveform.clone()
    cut = (
        2 * size * REDUCTION * HOP + 600
    )  # the last chunk but one ends before; windows and subsampling reach a little ahead
    changed[:, cut:] += noise(1, 7919 - cut, seed=7)
    before, _ = model(waveform, torch.tensor([7919]))
    after, _ = model(changed, torch.tensor([7919]))
    torch.testing.assert_close(before[:, : 2 * size], after[:, : 2 * size], atol=1e-6, rtol=0)
    assert not torch.allclose(before[:, 2 * size :], after[:, 2 * size :], atol=1e-3)


@torch.no_grad()
def test_attention_weights_share_out_each_frame(model: Recogniser) -> None:
    weights, frames = model.attention_weights(noise(1, 7001), torch.tensor([7001]))
    assert frames.tolist() == [11]
    assert [tuple(w.shape) for w in weights] == [(1, 1, 11, 11)] * 2
    torch.testing.assert_close(weights[1].sum(-1), torch.ones(1, 1, 11))
