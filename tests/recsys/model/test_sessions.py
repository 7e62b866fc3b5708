import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import Attention, Coordinates, RelativeBias, Softmax, View, causal, rows, same_segment, window
from headwise_recsys.model import Sessions

HEAD_WIDTH, HEADS, GAP = 7, 2, 30
TIMES = torch.tensor([[0, 10, 40, 71, 100, 500, 505, 0], [0, 100, 110, 0, 0, 0, 0, 0]])
SESSIONS = [[0, 0, 0, 1, 1, 2, 2], [0, 1, 1]]  # 30 seconds are within, 31 are not
LENGTHS = torch.tensor([7, 3])


def kernel(gap: float = GAP) -> Sessions:
    torch.manual_seed(3)
    made = Sessions(HEAD_WIDTH, gap)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made.requires_grad_(False)


def view(times: Tensor = TIMES, lengths: Tensor = LENGTHS) -> View:
    return View(rows(lengths, times.shape[1])._replace(time=times), causal & same_segment)


def heads(*, value_width: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return tuple(
        torch.randn(2, HEADS, 8, width, generator=generator) for width in (HEAD_WIDTH, HEAD_WIDTH, value_width)
    )


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)


def test_its_formula() -> None:
    made, (query, key, value) = kernel(), heads()
    answer = made(query, key, value, view())
    for row, sessions in enumerate(SESSIONS):
        for place, own in enumerate(sessions):
            keys, values = [], []
            for session in range(own):
                members = [other for other, number in enumerate(sessions) if number == session]
                weights = made.pool.scores(key[row, :, members]).softmax(1)[..., None]
                keys.append((weights * key[row, :, members]).sum(1))
                values.append((weights * value[row, :, members]).sum(1))
            for other in range(place + 1):
                if sessions[other] == own:
                    keys.append(key[row, :, other])
                    values.append(value[row, :, other])
            one = query[row, :, place, None]
            want = F.scaled_dot_product_attention(one, torch.stack(keys, 1), torch.stack(values, 1))[:, 0]
            close(answer[row, :, place], want)
    assert not answer[1, :, 3:].any()  # padding


def test_one_session_is_softmax_attention() -> None:
    query, key, value = heads()
    close(kernel(gap=1009)(query, key, value, view()), Softmax()(query, key, value, view()))


def test_packed_histories_are_apart_though_no_time_lies_between() -> None:
    made, (query, key, value) = kernel(), heads()
    position, segment = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 0]]), torch.tensor([[1, 1, 1, 2, 2, 2, 2, 0]])
    time = torch.tensor([[0, 5, 50, 51, 52, 99, 100, 0]])
    query, key, value = query[:1], key[:1], value[:1]
    together = made(query, key, value, View(Coordinates(position, segment, time), causal & same_segment))
    for some in (slice(0, 3), slice(3, 7)):
        alone = view(time[:, some], torch.tensor([some.stop - some.start]))
        close(together[:, :, some], made(query[:, :, some], key[:, :, some], value[:, :, some], alone))


def test_step_by_step_equals_all_at_once() -> None:
    torch.manual_seed(3)
    attention = Attention(2 * HEAD_WIDTH, HEADS, kernel=kernel()).requires_grad_(False)
    tokens, whole = torch.randn(2, 8, 2 * HEAD_WIDTH), view()
    want, cache, answers = attention(tokens, whole), attention.empty_cache(2, 8), []
    for place in range(8):
        at = whole.at.map(lambda c, place=place: c[:, place : place + 1])
        answer, cache = attention.step(tokens[:, place : place + 1], at, causal, cache)
        answers.append(answer)
    close(torch.cat(answers, 1)[whole.real], want[whole.real])


def test_what_it_cannot_follow_is_refused() -> None:
    with pytest.raises(ValueError, match="Sessions cannot follow the mask window"):
        kernel().check(window(3), biased=False)
    with pytest.raises(ValueError, match="Sessions cannot add a bias"):
        Attention(2 * HEAD_WIDTH, HEADS, kernel=kernel(), bias=RelativeBias(HEADS, 5))
