import pytest
import torch

from headwise.attention import Attention, Cache, Rotary, View, causal, chunk, rows, same_segment

WIDE = 6, 2  # heads over kv_heads


def tokens_for(attention, at):
    return torch.randn(*at.position.shape, attention.heads * attention.head_width, dtype=torch.double)


def close(answer, expected):
    torch.testing.assert_close(answer, expected, rtol=1e-10, atol=1e-10)


def stepwise(attention, tokens, at, mask, size, slots):
    cache, answers = attention.empty_cache(len(tokens), slots), []
    for start in range(0, tokens.shape[1], size):
        now = slice(start, start + size)
        answer, cache = attention.step(tokens[:, now], at.map(lambda c: c[:, now]), mask, cache)  # noqa: B023
        answers.append(answer)
        if isinstance(cache, Cache):
            assert cache.key.shape[2] == cache.value.shape[2] == cache.at.segment.shape[1] == slots
    return torch.cat(answers, 1)


def test_by_hand():
    attention = Attention(2, 1)  # head width 2; every projection the identity, every bias 0
    with torch.no_grad():
        attention.query.weight.copy_(torch.eye(2))
        attention.key_value.weight.copy_(torch.cat([torch.zeros(2, 2), torch.eye(2)]))  # all scores 0: a plain mean
        attention.output.weight.copy_(torch.eye(2))
        for layer in (attention.query, attention.key_value, attention.output):
            layer.bias.zero_()
    tokens = torch.tensor([[[3.0, 1], [5, 0], [7, 8]]])
    means = torch.tensor([[[3.0, 1], [4, 0.5], [5, 3]]])
    close(attention(tokens, View(rows(torch.tensor([3]), 3), causal)), means)


def test_the_future_cannot_change_the_past(case, mask, attention, padded):
    module, now = attention(case, WIDE), 7
    tokens = tokens_for(module, padded)
    changed = tokens.clone()
    changed[:, now:] = 11 * torch.randn_like(tokens[:, now:])
    answer, other = module(tokens, View(padded, mask)), module(changed, View(padded, mask))
    rule = case.rule(mask)
    settled = 0 if rule.ahead == float("inf") else now - int(rule.ahead)
    first = rule.leading if mask.ahead > 0 else 0  # tokens that see all, the future too
    close(answer[:, first:settled], other[:, first:settled])
    assert not torch.allclose(answer[0, now:], other[0, now:])


def test_padding_cannot_change_the_answer(case, apart, attention, padded):
    module = attention(case, WIDE)
    tokens, real = tokens_for(module, padded), padded.segment > 0
    longer = rows(real.sum(1), padded.position.shape[1] + 5)
    filled = 11 * tokens_for(module, longer)
    filled[:, : tokens.shape[1]][real] = tokens[real]
    answer, other = module(tokens, View(padded, apart)), module(filled, View(longer, apart))
    close(other[:, : tokens.shape[1]][real], answer[real])


def test_batch_mates_cannot_change_the_answer(case, mask, attention, padded):
    module = attention(case, WIDE)
    tokens = tokens_for(module, padded)
    answer = module(tokens, View(padded, mask))
    for row in range(len(tokens)):
        one = slice(row, row + 1)
        alone = padded.map(lambda c: c[one])  # noqa: B023
        close(answer[one], module(tokens[one], View(alone, mask)))


def test_packed_rows_equal_separate_rows(case, apart, attention, packed):
    module = attention(case, WIDE)
    tokens = tokens_for(module, packed)
    answer, seen = module(tokens, View(packed, apart)), 0
    for row, segment in torch.cartesian_prod(torch.arange(3), torch.arange(1, 4)).tolist():
        own = packed.segment[row] == segment
        length = int(own.sum())
        if length:
            close(
                answer[row, own], module(tokens[row, own][None], View(rows(torch.tensor([length]), length), apart))[0]
            )
            seen += length
    assert seen == (packed.segment > 0).sum()


@pytest.mark.parametrize("slots", [17, 23], ids=["just enough slots", "slots to spare"])
def test_step_by_step_equals_all_at_once(case, mask, attention, padded, slots):
    module = attention(case, WIDE)
    tokens, real = tokens_for(module, padded), padded.segment > 0
    expected = module(tokens, View(padded, mask & same_segment))[real]
    for size in [size for size in (1, 3) if mask.ahead < size] + [17]:
        close(stepwise(module, tokens, padded, mask, size, slots)[real], expected)


def test_sequences_may_have_any_numbers(case, apart, attention, packed):
    module = attention(case, WIDE)
    tokens, names = tokens_for(module, packed), torch.tensor([0, 41, 7, 1009])
    answer = module(tokens, View(packed, apart))
    close(module(tokens, View(packed._replace(segment=names[packed.segment]), apart)), answer)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_steps_keep_the_sequences_of_a_row_apart(case, attention, packed, size):
    module, real = attention(case, WIDE), packed.segment > 0
    tokens = tokens_for(module, packed)
    expected = module(tokens, View(packed, causal & same_segment))
    close(stepwise(module, tokens, packed, causal, size, 17)[real], expected[real])


def test_a_ring_cache_needs_what_the_mask_sees_and_no_more(padded):
    module, mask = Attention(26, 1, rotary=Rotary(26)).double(), chunk(3, left=5)
    tokens, real = tokens_for(module, padded), padded.segment > 0
    expected = module(tokens, View(padded, mask & same_segment))[real]
    close(stepwise(module, tokens, padded, mask, size=3, slots=5)[real], expected)
    assert not torch.allclose(stepwise(module, tokens, padded, mask, size=3, slots=4)[real], expected)


def test_a_step_continues_where_the_history_stands(case, attention):
    module, at = attention(case, WIDE), rows(torch.tensor([7]), 7)
    tokens = tokens_for(module, at)
    later = at._replace(position=at.position + 1009)
    close(stepwise(module, tokens, later, causal, 2, 7), module(tokens, View(later, causal)))


def test_rotary_softmax_knows_distances_only():
    module, at = Attention(26, 1, rotary=Rotary(26)).double(), rows(torch.tensor([7]), 7)
    tokens = tokens_for(module, at)
    later = at._replace(position=at.position + 1009)
    close(module(tokens, View(later, causal)), module(tokens, View(at, causal)))


def test_a_step_never_sees_padding_of_earlier_steps(case, attention):
    module, at = attention(case, WIDE), rows(torch.tensor([5]), 5)
    tokens = tokens_for(module, at)
    gap = at.map(
        lambda c: torch.cat([c[:, :2], torch.zeros_like(c[:, :1]), c[:, 2:]], 1)
    )  # a row that paused for a step
    paused = torch.cat([tokens[:, :2], 11 * tokens[:, :1], tokens[:, 2:]], 1)
    answer = stepwise(module, paused, gap, causal, 1, 6)
    close(answer[:, [0, 1, 3, 4, 5]], module(tokens, View(at, causal)))


def test_weights_say_how_values_were_mixed(case, mask, attention, padded):
    module = attention(case, WIDE)
    tokens, view = tokens_for(module, padded), View(padded, mask)
    weights = module.weights(tokens, view)
    assert weights.shape == (3, 6, 17, 17)
    close(weights.sum(-1), View(padded, case.rule(mask)).visible.any(-1).double().expand(-1, 6, -1))
    value = module.key_value(tokens)[..., 20:].unflatten(-1, (2, 10)).repeat_interleave(3, 2)
    mixed = torch.einsum("bhqk,bkhd->bqhd", weights, value).flatten(2)
    close(module.output(mixed), module(tokens, view))


def test_tokens_gather_from_a_source(case, attention):
    module, at, of = attention(case, WIDE, rotary=False), rows(torch.tensor([5, 2]), 5), rows(torch.tensor([3, 7]), 7)
    tokens, source = tokens_for(module, at), tokens_for(module, of)
    answer = module(tokens, View(at, same_segment, of), source)
    weights = module.weights(tokens, View(at, same_segment, of), source)
    assert weights.shape == (2, 6, 5, 7)
    changed = source.clone()
    changed[0, 3:] = 11.0
    close(module(tokens, View(at, same_segment, of), changed), answer)
    changed[0, 2] = 11.0
    assert not torch.allclose(module(tokens, View(at, same_segment, of), changed)[0], answer[0])
    close(
        module(tokens[:1], View(at.map(lambda c: c[:1]), same_segment, rows(torch.tensor([3]), 3)), source[:1, :3]),
        answer[:1],
    )


def test_the_last_of_a_row_gather_from_the_row_what_they_did_as_part_of_it(case, attention):
    module, row = attention(case, WIDE), rows(torch.tensor([7, 6]), 7)
    tokens, last = tokens_for(module, row), row.map(lambda c: c[:, 4:])
    answer = module(tokens[:, 4:], View(last, case.strictest, row), tokens)
    close(answer, module(tokens, View(row, case.strictest))[:, 4:])


def test_without_rotary_only_the_mask_knows_order():
    module, at = Attention(26, 2), rows(torch.tensor([7]), 7)
    tokens, order = torch.randn(1, 7, 26), torch.tensor([3, 1, 0, 6, 5, 2, 4])
    torch.testing.assert_close(
        module(tokens, View(at, same_segment))[:, order], module(tokens[:, order], View(at, same_segment))
    )


def test_a_cache_is_made_for_its_module():
    half = Attention(26, 2, kv_heads=1).to("meta", torch.bfloat16).empty_cache(3, 5)
    assert half.key.shape == half.value.shape == (3, 1, 5, 13)
    assert half.key.dtype == half.value.dtype == torch.bfloat16
    assert {tensor.device.type for tensor in (half.key, half.value, *half.at)} == {"meta"}
    assert Attention(26, 2).empty_cache(3, 5).at.segment.abs().max() == 0


@pytest.mark.parametrize(
    ("heads", "kv_heads", "message"),
    [
        (4, None, r"width (30) must be divisible by heads (4)"),
        (6, 4, r"heads (6) must be divisible by kv_heads (4)"),
        (2, 3, r"heads (2) must be divisible by kv_heads (3)"),
    ],
)
def test_says_which_numbers_do_not_fit(heads, kv_heads, message):
    with pytest.raises(ValueError) as error:
        Attention(30, heads, kv_heads=kv_heads)
    assert str(error.value) == message


def test_a_source_needs_coordinates_of_its_own():
    module, at = Attention(26, 2), rows(torch.tensor([5]), 5)
    tokens = torch.randn(1, 5, 26)
    for ask in (module, module.weights):
        with pytest.raises(ValueError, match=r"source needs coordinates of its own: View\(at, mask, of\)"):
            ask(tokens, View(at, same_segment), tokens)
        with pytest.raises(ValueError, match="the view is of other tokens: give them as source"):
            ask(tokens, View(at, same_segment, rows(torch.tensor([5]), 5)))


def test_every_token_needs_a_place():
    with pytest.raises(ValueError, match="5 tokens stand at 7 places: one for each is needed"):
        Attention(26, 2)(torch.randn(1, 5, 26), View(rows(torch.tensor([7]), 7), causal))


def test_rotary_must_be_as_wide_as_a_head():
    with pytest.raises(ValueError, match=r"rotary turns heads of width 26, these have width / heads = 13"):
        Attention(26, 2, rotary=Rotary(26))
