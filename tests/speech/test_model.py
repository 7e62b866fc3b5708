from collections.abc import Callable

import pytest
import torch

from headwise.attention import Hierarchical, Kernel, Linear, chunk, same_segment
from headwise_speech.frontend import HOP
from headwise_speech.model import LEAD, Recogniser, recogniser, window
from headwise_speech.subsampling import REDUCTION

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


@pytest.fixture(scope="module")
def streaming() -> Recogniser:
    model = build(chunk=3, left=5)
    for parameter in model.parameters():  # larger than new ones, so that what is far away still counts
        torch.nn.init.normal_(parameter, std=0.2)
    return model.requires_grad_(False)


def test_a_streaming_recogniser_hears_whole_utterances_too(streaming: Recogniser) -> None:
    heard = streaming.front_end(noise(2, 7919), torch.tensor([7919, 3001]))
    whole, frames = streaming.log_probs(*heard)
    chunked, same = streaming.log_probs(*heard, streaming.streaming)
    assert frames.tolist() == same.tolist() == [13, 5]
    assert not torch.allclose(whole[0, :3], chunked[0, :3], atol=1e-3)  # what comes later is heard
    alone, _ = streaming.log_probs(*streaming.front_end(noise(2, 7919)[:, :1919], torch.tensor([1919, 1919])))
    torch.testing.assert_close(
        alone, chunked[:, :3], atol=1e-5, rtol=0
    )  # here it is not: the first chunk is all there is


@pytest.mark.parametrize("samples", [0, 1, 639, 1919, 1920, 1959, 1960, 3840, 5760, 7919])
def test_chunk_by_chunk_equals_the_whole_under_the_mask(streaming: Recogniser, samples: int) -> None:
    waveform, hop = noise(2, 7919)[:, :samples], streaming.chunk * REDUCTION * HOP
    expected, [frames, _] = streaming.log_probs(
        *streaming.front_end(waveform, torch.tensor([samples, samples])), streaming.streaming
    )
    padded = torch.nn.functional.pad(waveform, (LEAD, window(3)))
    states, answers = streaming.encoder.empty_states(2, 5), []
    for start in range(0, int(frames), streaming.chunk):
        here = start * REDUCTION * HOP
        lengths = torch.full((2,), min(samples - here, window(3) - LEAD))
        now = padded[:, here : here + window(3)] + 1.0 * (torch.arange(window(3)) >= LEAD + lengths[:, None])
        answer, [time, _], states = streaming.step(now, lengths, torch.full((2,), start), states)
        answers.append(answer[:, :time])
    assert hop == 1920
    torch.testing.assert_close(torch.cat(answers, 1), expected[:, :frames], atol=1e-5, rtol=0)


def test_a_window_is_what_a_chunk_is_made_from() -> None:
    # Token t is made from frames 4 t - 3 to 4 t + 3 of 400 samples each, centred on multiples of 160.
    assert LEAD == 3 * 160 + 200
    assert window(12) - LEAD == (4 * 11 + 3) * 160 + 200 == 12 * 640 + 40


@pytest.mark.parametrize("kernel", [Linear, lambda: Hierarchical(WIDTH, 3)])
def test_a_kernel_that_cannot_hear_in_chunks_says_so_when_it_is_built(kernel: Callable[[], Kernel]) -> None:
    with pytest.raises(ValueError, match="cannot follow the mask"):
        build(chunk=3, left=5, kernel=kernel)


@torch.no_grad()
def test_attention_weights_share_out_each_frame(model: Recogniser) -> None:
    weights, frames = model.attention_weights(noise(1, 7001), torch.tensor([7001]))
    assert frames.tolist() == [11]
    assert [tuple(w.shape) for w in weights] == [(1, 1, 11, 11)] * 2
    torch.testing.assert_close(weights[1].sum(-1), torch.ones(1, 1, 11))


@torch.no_grad()
def test_the_last_of_its_depths_is_what_the_encoder_makes(model: Recogniser) -> None:
    heard = model.front_end(noise(2, 7001), torch.tensor([7001, 3001]))
    depths, frames = model.depths(*heard)
    assert (len(depths), frames.tolist()) == (2, [11, 5])
    torch.testing.assert_close(depths[-1], model.encode(*heard)[0])
    assert not torch.allclose(depths[0], depths[-1], atol=1e-2)


@pytest.fixture(scope="module")
def writing() -> Recogniser:
    return build(decoder_blocks=2)


@torch.no_grad()
def test_a_decoder_gives_each_token_a_probability_by_those_before_it(writing: Recogniser) -> None:
    encoded, time = writing.encode(*writing.front_end(noise(2, 7001), torch.tensor([7001, 3001])))
    tokens = torch.tensor([[3, 5, 7], [2, 0, 0]])
    log_probs = writing.transcribed(encoded, time, tokens)
    assert log_probs.shape == (2, 4, VOCAB)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 4))
    other = writing.transcribed(encoded, time, torch.tensor([[3, 11, 7], [4, 0, 0]]))
    torch.testing.assert_close(other[0, :2], log_probs[0, :2])
    torch.testing.assert_close(other[1, :1], log_probs[1, :1])
    assert not torch.allclose(other[0, 2], log_probs[0, 2], atol=1e-3)


@torch.no_grad()
def test_a_decoder_hears_no_padding(writing: Recogniser) -> None:
    waveform, lengths, tokens = noise(2, 7001), torch.tensor([7001, 3001]), torch.tensor([[3, 5, 7], [2, 0, 0]])
    encoded, time = writing.encode(*writing.front_end(waveform, lengths))
    together = writing.transcribed(encoded, time, tokens)
    encoded, time = writing.encode(*writing.front_end(waveform[1:, :3001], lengths[1:]))
    alone = writing.transcribed(encoded, time, tokens[1:, :1])
    torch.testing.assert_close(together[1, :2], alone[0], atol=1e-5, rtol=0)


def test_a_recogniser_without_a_decoder_says_so(model: Recogniser) -> None:
    with pytest.raises(ValueError, match="this recogniser has no attention decoder; build it with"):
        model.transcribed(torch.zeros(1, 3, WIDTH), torch.tensor([3]), torch.tensor([[1]]))
