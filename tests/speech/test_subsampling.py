import torch

from headwise_speech.subsampling import Subsampling


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
