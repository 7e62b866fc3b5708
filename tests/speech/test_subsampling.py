import torch

from headwise_speech.subsampling import BEFORE, Subsampling


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
def test_a_stretch_gives_the_tokens_that_the_whole_gives() -> None:
    torch.manual_seed(3)
    subsampling, frames = Subsampling(11, 3, 7), torch.tensor([29, 13])
    spectrogram = torch.randn(2, 29, 11)
    whole, times = subsampling(spectrogram, frames)
    assert times.tolist() == [8, 4]
    surrounded = torch.nn.functional.pad(spectrogram, (0, 0, BEFORE, 9), value=5.0)
    for start in (0, 2, 5):
        stretch = surrounded[:, 4 * start : 4 * start + 4 * 3 + BEFORE]
        part = subsampling.within(stretch, torch.full((2,), 4 * start - BEFORE), frames)
        assert part.shape == (2, 3, 7)
        for row, time in enumerate(times.tolist()):
            real = max(0, min(3, time - start))
            torch.testing.assert_close(part[row, :real], whole[row, start : start + real], atol=1e-5, rtol=0)
