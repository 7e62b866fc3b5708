import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import Coordinates, RelativeBias, View, causal, rows, same_segment
from headwise_recsys.model import HSTU

WIDTH, HEADS, TIME = 26, 2, 11


def block(biased: bool = True) -> HSTU:
    torch.manual_seed(3)
    made = HSTU(WIDTH, HEADS, longest=17, bias=RelativeBias(HEADS, 5) if biased else None)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made.eval().requires_grad_(False)


def tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(5))


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-5)


def test_its_formula() -> None:
    # Of the paper, eq. 1 to 3, for one sequence, written out token by token.
    made, x = block(), tokens(1, TIME)
    view = View(rows(torch.tensor([TIME]), TIME), causal)
    gate, value, query, key = F.silu(made.inputs(made.norm(x[0]))).chunk(4, -1)
    size = WIDTH // HEADS
    assert made.bias is not None
    bias = made.bias(*view.pairs)[0]
    for t in range(TIME):
        gathered = torch.zeros(WIDTH)
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            for s in range(t + 1):
                weight = F.silu(query[t, part] @ key[s, part] + bias[head, t, s]) / 17
                gathered[part] += weight * value[s, part]
        close(made(x, view)[0, t], x[0, t] + made.output(made.gathered_norm(gathered) * gate[t]))


def test_step_by_step_equals_all_at_once() -> None:
    made, x = block(), tokens(3, TIME)
    lengths = torch.tensor([TIME, 7, 1])
    at = rows(lengths, TIME)
    whole = made(x, View(at, causal & same_segment))
    state, answers, first = made.empty_state(3, slots=TIME), [], 0
    for count in (1, 5, 2, 3):
        some = slice(first, first + count)
        answer, state = made.step(x[:, some], at.map(lambda c, some=some: c[:, some]), causal, state)
        answers.append(answer)
        first += count
    close(torch.cat(answers, 1)[at.segment > 0], whole[at.segment > 0])


def test_what_came_twice_weighs_twice() -> None:
    made, x = block(biased=False), tokens(1, 3)
    made.gathered_norm = nn.Identity()  # type: ignore[assignment]  # which would hide it
    twice = x[:, [0, 0, 1, 2]]

    def gathered(of: Tensor) -> Tensor:
        _, query, cache = made._project(of, rows(torch.tensor([of.shape[1]]), of.shape[1]))
        view = View(rows(torch.tensor([of.shape[1]]), of.shape[1]), causal)
        return (made._weigh(query, cache.key, view) @ cache.value)[0, :, -1]

    once = gathered(x) - gathered(x[:, [1, 2]])
    close(gathered(twice), gathered(x) + once)


def test_packed_sequences_are_apart() -> None:
    made, x = block(), tokens(1, 8)
    position = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 0]])
    segment = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 0]])
    together = made(x, View(Coordinates(position, segment, position), causal & same_segment))
    for some in (slice(0, 3), slice(3, 7)):
        length = some.stop - some.start
        close(together[:, some], made(x[:, some], View(rows(torch.tensor([length]), length), causal)))


def test_its_weights_are_shares() -> None:
    made, x = block(), tokens(2, TIME)
    weights = made.weights(x, View(rows(torch.tensor([TIME, 3]), TIME), causal & same_segment))
    assert weights.shape == (2, HEADS, TIME, TIME)
    close(weights[0].sum(-1), torch.ones(HEADS, TIME))
    assert (weights >= 0).all()
    assert not weights.triu(1).any()
    assert not weights[1, :, :, 3:].any()


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"width \(26\) must be divisible by heads \(3\)"):
        HSTU(26, 3, longest=17)
