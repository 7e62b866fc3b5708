import json

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from headwise.errors import InputError
from headwise.training.checkpoints import extract, load
from headwise.training.fit import Interrupted, fit
from headwise.training.initialise import Report, Rows, freeze, initialise
from headwise.training.optimization import OptimizerSettings, adamw
from headwise.training.settings import FitSettings

WIDTH, VOCAB, LENGTH, HIDDEN = 3, 5, 7, 11
EXAMPLES, BATCH = 41, 13


class Encoder(nn.Module):
    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, HIDDEN), nn.GELU(), nn.Dropout(0.5), nn.Linear(HIDDEN, width))
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            tokens = tokens + block(tokens)
        return self.norm(tokens)


class Model(nn.Module):
    def __init__(self, *, width: int = WIDTH, blocks: int = 2, vocab: int = VOCAB, length: int = LENGTH) -> None:
        super().__init__()
        self.positions = nn.Embedding(length, width)
        self.encoder = Encoder(width, blocks)
        self.head = nn.Linear(width, vocab)
        self.register_buffer("mean", torch.rand(width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(tokens + self.positions.weight[: tokens.shape[1]]))


def model(seed: int, **sizes: int) -> Model:
    torch.manual_seed(seed)
    return Model(**sizes)


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def head_rows(mapping: list[int | None]) -> dict[str, Rows]:
    rows = Rows(mapping, "character")
    return {"head.weight": rows, "head.bias": rows}


def test_rows_are_taken_one_by_one_by_hand():
    new, old = model(1, vocab=5), weights_of(model(2, vocab=7))
    old["head.bias"] = torch.tensor([0.0, 10, 20, 30, 40, 50, 60])
    with torch.no_grad():
        new.head.bias.fill_(-1)
    report = initialise(new, old, head_rows([0, 3, None, 6, 1]))
    assert new.head.bias.tolist() == [0, 30, -1, 60, 10]
    assert same(new.head.weight[[0, 1, 3, 4]], old["head.weight"][[0, 3, 6, 1]])
    assert [(fate.name, fate.rows, fate.of, fate.why) for fate in report.of("resized")] == [
        ("head.weight", 4, 5, "by character"),
        ("head.bias", 4, 5, "by character"),
    ]


def test_a_table_of_the_same_size_is_matched_row_by_row_too():
    new, old = model(1), weights_of(model(2))
    report = initialise(new, old, head_rows([4, 3, 2, 1, 0]))
    assert same(new.head.weight, old["head.weight"].flip(0))
    assert {fate.name for fate in report.of("resized")} == {"head.weight", "head.bias"}


def test_rows_are_matched_by_what_they_stand_for():
    assert Rows.matching("?cab", "abcb", "character").old == [None, 2, 0, 1]
    assert Rows.matching([None, "a"], [None, "a"], "title").old == [None, 1], "no title is not a title"
    assert Rows.matching(range(3), range(5), "position").old == [0, 1, 2]
    assert Rows.matching(range(4), range(2), "position").old == [0, 1, None, None]


def test_the_report_says_what_became_of_every_tensor():
    new = model(1, blocks=3, vocab=5, length=2)
    old = weights_of(model(2, blocks=2, vocab=7, length=7)) | {"teacher": torch.zeros(1)}
    old["mean"] = torch.zeros(13)
    report = initialise(new, old, head_rows([0, 1, None, None, 2]) | {"positions.weight": Rows([0, 1], "position")})
    assert [fate.name for fate in report.fates] == list(new.state_dict())
    assert str(report).splitlines() == [
        "taken    10 tensors: encoder 10",
        "resized  positions.weight: 2 of 2 rows, by position",
        "resized  head.weight: 3 of 5 rows, by character",
        "resized  head.bias: 3 of 5 rows, by character",
        "left     mean: shape (3,), in the earlier run (13,)",
        "left     encoder.blocks.2.0.weight: not in the earlier run",
        "left     encoder.blocks.2.0.bias: not in the earlier run",
        "left     encoder.blocks.2.3.weight: not in the earlier run",
        "left     encoder.blocks.2.3.bias: not in the earlier run",
        "unused   1 tensors of the earlier run, such as teacher",
    ]
    assert Report.read(json.loads(json.dumps(report.plain()))) == report


@pytest.mark.parametrize("seed", range(5))
def test_a_tensor_is_the_earlier_one_or_untouched(seed):
    chance = torch.Generator().manual_seed(seed)
    new, old = model(1), weights_of(model(2))
    missing = {name for name in old if torch.rand((), generator=chance) < 0.4} - {"encoder.norm.weight"}
    fresh = weights_of(new)
    report = initialise(new, {name: tensor for name, tensor in old.items() if name not in missing}, {})
    for name, tensor in new.state_dict().items():
        assert same(tensor, (fresh if name in missing else old)[name]), name
    assert {fate.name for fate in report.of("left")} == missing
    assert not report.of("resized")


def test_a_model_alike_is_taken_whole_and_answers_the_same():
    new, old = model(1).eval(), model(2).eval()
    report = initialise(new, old.state_dict(), head_rows([0, 1, 2, 3, 4]))
    assert len(report.of("taken")) == len(report.fates)
    tokens = torch.randn(2, LENGTH, WIDTH)
    assert torch.equal(new(tokens), old(tokens))


def test_another_width_names_both_and_the_flag():
    with pytest.raises(
        InputError,
        match=r"model.width is 3, that of the earlier run 17: nothing of its encoder fits; give --model.width 17",
    ):
        initialise(model(1), weights_of(model(2, width=17)), {})


def test_an_earlier_run_without_an_encoder_or_a_fitting_block_is_refused():
    with pytest.raises(InputError, match="the earlier run has no encoder among its weights"):
        initialise(model(1), {"head.weight": torch.zeros(5, 3)}, {})
    old = weights_of(model(2))
    other = {name: tensor for name, tensor in old.items() if "blocks" not in name}
    with pytest.raises(InputError, match=r"no block of the earlier run fits .*encoder\.blocks\.0\.0\.weight is not in"):
        initialise(model(1), other, {})


def test_a_mapping_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"head\.weight has 5 rows, its mapping 4"):
        initialise(model(1), weights_of(model(2)), head_rows([0, 1, 2, 3]))


def test_only_what_was_taken_into_blocks_is_frozen():
    new, old = model(1, blocks=3), weights_of(model(2, blocks=2))
    del old["encoder.blocks.1.0.bias"]
    freeze(new, initialise(new, old, {}))
    frozen = {name for name, parameter in new.named_parameters() if not parameter.requires_grad}
    assert frozen == {
        *(f"encoder.blocks.0.{part}" for part in ("0.weight", "0.bias", "3.weight", "3.bias")),
        *(f"encoder.blocks.1.{part}" for part in ("0.weight", "3.weight", "3.bias")),
    }
    assert [block.training for block in new.encoder.blocks] == [False, True, True]


def test_nothing_to_freeze_is_refused():
    with pytest.raises(InputError, match="--freeze: nothing of the earlier run was taken into the blocks"):
        freeze(model(1), Report(()))


class Task(pl.LightningModule):
    def __init__(self, frozen: bool, stop_at: int = 0) -> None:
        super().__init__()
        self.model, self.stop_at, self.modes = model(1), stop_at, set()
        report = initialise(self.model, weights_of(model(2)), {})
        if frozen:
            freeze(self.model, report)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        if self.global_step + 1 == self.stop_at:
            raise SystemExit
        self.modes |= {block.training for block in self.model.encoder.blocks}
        return nn.functional.mse_loss(self.model(batch[0]), batch[1])

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        self.log("valid/loss", nn.functional.mse_loss(self.model(batch[0]), batch[1]))

    def configure_optimizers(self) -> dict:
        return adamw(self, OptimizerSettings(rate=0.05, decay=0.3, warmup=2, schedule="constant"), 20)


class Data(pl.LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        chance = torch.Generator().manual_seed(5)
        tokens = torch.randn(EXAMPLES, LENGTH, WIDTH, generator=chance)
        targets = torch.randn(EXAMPLES, LENGTH, VOCAB, generator=chance)
        return DataLoader(TensorDataset(tokens, targets), BATCH, shuffle=True)

    val_dataloader = train_dataloader


def trained(folder, task):
    settings = FitSettings(epochs=3, average=0.7, clip=0.1, threads=1, accelerator="cpu", patience=0)
    return fit(task, Data(), settings=settings, folder=folder, monitor="valid/loss", mode="min")


@pytest.mark.filterwarnings("ignore:The 'val_dataloader' .*shuffl:UserWarning", "ignore:Your `val_dataloader`")
def test_frozen_weights_keep_every_bit_and_all_others_move(tmp_path):
    task = Task(frozen=True)
    begun = {f"model.{name}": tensor for name, tensor in weights_of(task.model).items()}
    fitted = trained(tmp_path / "run", task)
    assert task.modes == {False}, "no dropout in frozen blocks, in any epoch"
    last = load(fitted.best.with_name("last.ckpt"))
    for state in (load(fitted.best)["state_dict"], last["state_dict"], last["current_model_state"]):
        moved = {name for name, tensor in state.items() if not same(tensor, begun[name])}
        assert moved == {name for name in begun if "blocks" not in name and name != "model.mean"}
    assert len(last["optimizer_states"][0]["state"]) == len(moved)


@pytest.mark.filterwarnings("ignore:The 'val_dataloader' .*shuffl:UserWarning", "ignore:Your `val_dataloader`")
def test_a_frozen_run_that_is_stopped_and_continued_ends_with_the_same_bits(tmp_path):
    whole = trained(tmp_path / "whole", Task(frozen=True))
    with pytest.raises(Interrupted):
        trained(tmp_path / "stopped", Task(frozen=True, stop_at=7))
    again = Task(frozen=True)
    continued = trained(tmp_path / "stopped", again)
    assert again.modes == {False}
    for name in ("best.ckpt", "last.ckpt"):
        one, other = (load(fitted.best.with_name(name))["state_dict"] for fitted in (whole, continued))
        assert all(same(one[key], other[key]) for key in one)


def test_the_weights_of_a_checkpoint_stand_alone(tmp_path):
    state = weights_of(model(1))
    torch.save({"state_dict": state, "optimizer_states": [state] * 3}, tmp_path / "best.ckpt")
    extract(tmp_path / "best.ckpt", tmp_path / "weights.ckpt")
    kept = load(tmp_path / "weights.ckpt")
    assert set(kept) == {"state_dict"}
    assert all(same(kept["state_dict"][name], tensor) for name, tensor in state.items())
