"""What a recommender run is made of, and the runs that we know to be good. A new run is a new function here."""

from dataclasses import dataclass, field, replace
from typing import Literal

from headwise.errors import InputError
from headwise.training.optimization import OptimizerSettings
from headwise.training.settings import FitSettings
from headwise_pipelines.bounds import at_least, at_most, compatible, divisible_heads, share
from headwise_recsys.columns import USUAL, Columns


@dataclass(frozen=True)
class SASRecSettings:
    """The size and shape of the model.

    Attributes:
        window: items of a history that the model looks at, at most.
        width: of the embeddings and blocks.
        blocks: how many.
        heads: of each block's attention.
        hidden: width of the feed-forward's inside; 0 means 4 x width.
        block: attention and feed-forward, or `hstu`, which weighs without softmax and gates in place of a feed-forward.
        kernel: what attention computes; `window` looks `reach` items back, `hierarchical` makes groups of `reach` items,
            `sessions` groups of items no further apart than `gap`.
        reach: items of a window or a group.
        gap: seconds between two events of one session, at most.
        positions: how an item knows its place; `timed` knows how many items and how many seconds lie between two.
        query_time: whether each item knows when the next one is asked for, so that the model knows when it is asked. Its figures
            are of a class of their own, and the memory of `export.incremental` is not to be had.
        event_types: whether each item knows what was done with it; the data need a column for that, named by `columns.event`.
        user_features: names of what is known of users that each item of a history is told, with commas between; `all` takes
            everything that the table of `users` holds.
        head: how an item is compared with what is expected; `cosine` has a learned temperature.
        transition: rank of what is added for how each item follows the last one; 0 adds nothing.
        gated: gates on the residual branches (LiGR).
        swiglu: SwiGLU in place of a GELU feed-forward.
        dropout: on the embedded history and on every branch.
        features: names of item features that make an item's vector beside its own, with commas between; `all` takes every one.
        sparse: a step moves only the items that it touched; for catalogues of hundreds of thousands, with a loss that draws.
    """

    window: int = 200
    width: int = 64
    blocks: int = 2
    heads: int = 2
    hidden: int = 0
    block: Literal["transformer", "hstu"] = "transformer"
    kernel: Literal["softmax", "additive", "window", "linear", "hierarchical", "sessions"] = "softmax"
    reach: int = 32
    gap: int = 1800
    positions: Literal["learned", "sinusoidal", "rotary", "relative", "alibi", "timed"] = "learned"
    query_time: bool = False
    event_types: bool = False
    user_features: str = ""
    head: Literal["dot", "cosine"] = "dot"
    transition: int = 0
    gated: bool = False
    swiglu: bool = False
    dropout: float = 0.2
    features: str = ""
    sparse: bool = False

    def __post_init__(self) -> None:
        at_least("model", self, window=1, width=1, blocks=1, heads=1, hidden=0, reach=1, gap=0, transition=0)
        divisible_heads("model", self)
        compatible("model", self)
        share("model", self, "dropout")
        if self.block == "hstu" and (self.kernel != "softmax" or self.positions == "rotary"):
            raise InputError(
                f"model.block (hstu) has no kernel to choose ({self.kernel}) and cannot turn what it compares "
                f"({self.positions}): leave model.kernel and use learned, relative or timed positions"
            )

    @property
    def timed(self) -> bool:
        """Whether the model looks at the times of events."""
        return self.positions == "timed" or self.kernel == "sessions" or self.query_time


@dataclass(frozen=True)
class LossSettings:
    """What the model learns by.

    Attributes:
        name: `softmax` compares with the whole catalogue, exactly; `sampled`, `gbce` and `bce` with drawn items, for large ones.
        unseen: `softmax` compares with items that the user has not seen alone, since no other will be recommended.
        negatives: items drawn to compare with.
        shared: one draw for a whole batch; without it every position has its own, which is slow for more than a few.
        in_batch: share of the negatives of `sampled` that are targets of the batch, and so as popular as those.
        calibration: of `gbce`: 0 makes it `bce`, 1 makes its scores probabilities.
    """

    name: Literal["softmax", "sampled", "gbce", "bce"] = "softmax"
    unseen: bool = True
    negatives: int = 256
    shared: bool = True
    in_batch: float = 0.5
    calibration: float = 0.75

    def __post_init__(self) -> None:
        at_least("loss", self, negatives=1, in_batch=0, calibration=0)
        at_most("loss", self, in_batch=1, calibration=1)
        if self.name == "sampled" and not self.shared:
            raise InputError(
                "loss.shared (false): the negatives of the sampled loss are shared by the batch; use gbce or bce"
            )


@dataclass(frozen=True)
class ExportSettings:
    """How the served graph searches the catalogue.

    Attributes:
        quantised: by 8-bit vectors, scoring the best of them exactly; faster from some hundred thousand items on.
        recall: share of the exact top 10 that it must then find on validation queries; otherwise nothing is exported.
        incremental: also write the graph with a memory, to which one new event costs that event alone.
    """

    quantised: bool = False
    recall: float = 0.99
    incremental: bool = False

    def __post_init__(self) -> None:
        at_least("export", self, recall=0)
        at_most("export", self, recall=1)
        if self.quantised and self.incremental:
            raise InputError(
                "export.incremental (true): the graph with a memory is exact; set export.quantised to false"
            )


@dataclass(frozen=True)
class RecsysConfig:
    """Everything that decides what a recommender run computes, but for the data.

    Attributes:
        min_count: users and items with fewer events are left out, counted once on the raw data.
        columns: names of the columns of a table of events; the usual ones are found without.
        users: name of a table of users that stands beside the events, such as `users.dat`; none is read where it is empty.
        targets: names of types of events, with commas between, that alone are learned and asked for, such as `buy`; those of
            other types are context. All where it is empty.
        split: which events are predicted; reports give the baselines of both splits where the data has times.
        repeats: whether items of a history may be recommended again, and count where they come again.
        tokens: targets of a training batch, about.
        stride: targets of each window of a history longer than the window; fewer cost more and see more of what came before,
            1 is prefix training; 0 means as many as the window holds.
        refit: once the epochs are chosen on validation, train again for as many, with the validation events too; the validation
            figures stay those of the choice.
        model: size and shape of the model.
        loss: what it learns by.
        optimizer: learning rate and its course.
        fit: epochs, patience, averaging, seed, device.
        export: how the served graph searches.
    """

    min_count: int = 5
    columns: Columns = USUAL
    users: str = ""
    targets: str = ""
    split: Literal["leave-one-out", "temporal"] = "leave-one-out"
    repeats: bool = False
    tokens: int = 1024
    stride: int = 0
    refit: bool = False
    model: SASRecSettings = field(default_factory=SASRecSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(rate=1.5e-3, warmup=200))
    fit: FitSettings = field(default_factory=lambda: FitSettings(epochs=30, patience=6, average=0.998))
    export: ExportSettings = field(default_factory=ExportSettings)

    @property
    def target_types(self) -> tuple[str, ...]:
        """The types of events that are learned and asked for; none where all are."""
        return types_of(self.targets)

    @property
    def unseen(self) -> bool:
        """Whether the loss leaves out what the user of each position had seen: not where that may come again."""
        return self.loss.name == "softmax" and self.loss.unseen and not self.repeats

    def __post_init__(self) -> None:
        at_least("", self, min_count=1, tokens=1, stride=0)
        if self.stride > self.model.window:
            raise InputError(f"stride ({self.stride}) must be at most model.window ({self.model.window})")
        if self.export.incremental and self.model.kernel == "linear":
            raise InputError(
                "export.incremental (true): the memory is keys and values, which linear attention has none of; "
                "choose another model.kernel"
            )
        if self.export.incremental and self.model.query_time:
            raise InputError(
                "export.incremental (true): each item knows when the next one is asked for, so that what is remembered of it "
                "is wrong once that came; set model.query_time to false"
            )
        if self.model.sparse and self.loss.name == "softmax":
            raise InputError(
                "model.sparse (true): the exact softmax touches every item in every step; "
                "set loss.name to sampled, gbce or bce"
            )


def types_of(targets: str) -> tuple[str, ...]:
    """The names that stand there with commas between."""
    return tuple(name.strip() for name in targets.split(",") if name.strip())


def ml_1m() -> RecsysConfig:
    """MovieLens 1M, 6,040 users, 3,416 items.

    headwise train recsys ml-1m --data ../shared/data/ml-1m

    Mean of seeds 1, 2 and 3: test HR@10 .3381, NDCG@10 .2012; 43 to 52 minutes on a thread of a busy machine.
    """
    return RecsysConfig(
        model=replace(_learns_fast(window=200), width=128, hidden=256, dropout=0.3),
        optimizer=OptimizerSettings(rate=1e-3, warmup=200),
        fit=FitSettings(epochs=24, patience=6, average=0.999),
    )


def ml_100k() -> RecsysConfig:
    """MovieLens 100K, 943 users.

    headwise train recsys ml-100k --data ../shared/data/ml-100k
    """
    return RecsysConfig(model=_learns_fast(window=200), optimizer=OptimizerSettings(rate=1e-3, warmup=100))


def beauty() -> RecsysConfig:
    """Amazon Beauty 5-core, 22,363 users, 12,101 items, histories of 9 items.

    headwise train recsys beauty --data ../shared/data/beauty

    Seed 1: validation HR@10 .1105, NDCG@10 .0686, test .0864, .0525; 12 minutes on a thread of a busy machine. With
    --fit.epochs 20 --refit true, so that it also learns from the validation events: test .0994, .0614.
    """
    return RecsysConfig(
        tokens=512,
        model=replace(_learns_fast(window=50), dropout=0.3),
        optimizer=OptimizerSettings(rate=2e-3, warmup=200),
        fit=FitSettings(epochs=24, patience=6, average=0.998),
    )


def _learns_fast(window: int) -> SASRecSettings:
    # After ten epochs of MovieLens 1M validation NDCG@10 is .194, with learned positions and plain blocks .176 (one seed).
    return SASRecSettings(window=window, positions="rotary", gated=True, swiglu=True)


def shopping() -> RecsysConfig:
    """The quick start's generated shopping histories.

    headwise train recsys shopping --data FOLDER
    """
    return RecsysConfig(
        min_count=1,
        tokens=2048,
        model=SASRecSettings(window=64, dropout=0.1),
        optimizer=OptimizerSettings(rate=3e-3, warmup=50),
        fit=FitSettings(epochs=12, patience=0, average=0.98),
    )


def sasrec_plus() -> RecsysConfig:
    """SASRec with the full cross-entropy, after Klenitskiy & Vasilev 2023 ("Turning Dross Into Gold Loss"), for comparison.

    Size, dropout, rate and stopping are theirs, and 16,384 targets are about their 128 histories of MovieLens 1M. Blocks,
    whole histories and packing are ours. They look back 50 items on data other than MovieLens.

    headwise train recsys sasrec-plus --data ../shared/data/ml-1m
    """
    return _published(SASRecSettings(heads=1, hidden=64, dropout=0.1), LossSettings(unseen=False), patience=10)


def gsasrec() -> RecsysConfig:
    """gSASRec, calibrated against few negatives, after Petrov & Macdonald 2023, for comparison.

    Size, dropout, negatives and calibration are those of their code for MovieLens 1M. Their epochs are 100 batches long and
    their patience 200 of those: about 300 passes. Negatives are drawn for a batch, not for each position.

    headwise train recsys gsasrec --data ../shared/data/ml-1m
    """
    model = SASRecSettings(width=256, blocks=3, heads=1, hidden=256, dropout=0.1)
    return _published(model, LossSettings(name="gbce", negatives=256, calibration=0.75), patience=50)


def esasrec() -> RecsysConfig:
    """eSASRec, LiGR blocks and sampled softmax, after Tikhonovich et al. 2025, for comparison.

    Size, dropout, negatives, rate and stopping are theirs for MovieLens 1M; for Beauty they take one block, dropout 0.2 and a
    window of 50. Negatives are drawn for a batch, not for each position, and counted for as many items as they stand for.

    headwise train recsys esasrec --data ../shared/data/ml-1m
    """
    model = SASRecSettings(heads=1, gated=True, swiglu=True, dropout=0.1)
    return _published(model, LossSettings(name="sampled", negatives=256, in_batch=0.0), patience=50)


def _published(model: SASRecSettings, loss: LossSettings, *, patience: int) -> RecsysConfig:
    # What these recipes share: Adam at a constant rate, nothing decayed, clipped or averaged.
    return RecsysConfig(
        tokens=16_384,
        model=model,
        loss=loss,
        optimizer=OptimizerSettings(rate=1e-3, decay=0.0, beta2=0.999, warmup=0, schedule="constant"),
        fit=FitSettings(epochs=100, patience=patience, clip=0.0),
    )


PRESETS = {
    "ml-1m": ml_1m,
    "ml-100k": ml_100k,
    "beauty": beauty,
    "shopping": shopping,
    "sasrec-plus": sasrec_plus,
    "gsasrec": gsasrec,
    "esasrec": esasrec,
}
