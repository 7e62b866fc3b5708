import pytest
import torch

from headwise.transformer import Dropout


def test_a_share_is_zeroed_and_the_mean_stays() -> None:
    torch.manual_seed(3)
    ones = torch.ones(101, 997)
    for share, exact in ((0.1, 26 / 256), (0.25, 0.25), (0.5, 0.5), (0.9, 230 / 256)):
        left = Dropout(share)(ones)
        assert (left == 0).float().mean().item() == pytest.approx(exact, abs=0.005)
        assert left.unique().tolist() == pytest.approx([0, 1 / (1 - exact)])
        assert left.mean().item() == pytest.approx(1, abs=0.05)


def test_each_number_is_drawn_for_itself() -> None:
    torch.manual_seed(3)
    left = Dropout(0.5)(torch.ones(40_009)) > 0
    for apart in (1, 3, 7, 8):  # bytes of one word, and of neighbours
        assert (left[apart:] == left[:-apart]).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert not torch.equal(Dropout(0.5)(torch.ones(40_009)) > 0, left)


def test_gradients_pass_where_numbers_did() -> None:
    torch.manual_seed(3)
    tokens = torch.randn(7, 13, requires_grad=True)
    left = Dropout(0.25)(tokens)
    left.sum().backward()
    assert tokens.grad is not None
    torch.testing.assert_close(tokens.grad, (left != 0) * (4 / 3))


def test_evaluation_and_a_share_of_nothing_change_nothing() -> None:
    tokens = torch.randn(7, 13)
    assert Dropout(0.5).eval()(tokens) is tokens
    assert Dropout(0.0)(tokens) is tokens
    state = torch.get_rng_state()
    Dropout(0.001)(tokens)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_seed_drops_the_same() -> None:
    tokens, answers = torch.randn(7, 13), []
    for _ in range(2):
        torch.manual_seed(5)
        answers.append(Dropout(0.3)(tokens))
    assert torch.equal(*answers)


def test_all_cannot_be_dropped() -> None:
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"the share of what is dropped \({share}\) must be from 0 to below 1"):
            Dropout(share)
