"""From histories to batches: windows over the whole history, packed several to a row."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from headwise.attention import Coordinates
from headwise.errors import InputError
from headwise_recsys import context
from headwise_recsys.interactions import Interactions
from headwise_recsys.losses import Seen
from headwise_recsys.metrics import at_once
from headwise_recsys.splits import Queries, Split, spans

# [windows, 3]: first input event, first that has a target, one past the last; a target is the event after its input.
Windows = NDArray[np.int64]


class Packed(NamedTuple):
    """Rows that hold several windows each.

    Attributes:
        items: [rows, time] inputs, 0 where there is none.
        targets: [rows, time] the item that came next, 0 where none is learned.
        at: where each input stands: position in its window, which window of the row, and when it was.
        context: what else is known of each input, by name.
        seen: all that the user of each target had seen by then, earlier windows included; None where it plays no part.
        weight: of this part of a batch, so that the mean over processes is the mean over all targets; 1 in one process.
    """

    items: Tensor
    targets: Tensor
    at: Coordinates
    context: Mapping[str, Tensor]
    seen: Seen | None = None
    weight: float = 1.0


class Part(NamedTuple):
    """Which part of every batch a process takes: each `of`-th row, from row `rank` on."""

    rank: int = 0
    of: int = 1


class Asked(NamedTuple):
    """Histories to predict from.

    Attributes:
        history: [batch, time] the last items of each history, right-padded with 0.
        lengths: [batch] how many there are.
        beside: what else the model reads, by name and in its order.
        queries: the same as event ranges, for masking what was seen and finding the targets.
    """

    history: Tensor
    lengths: Tensor
    beside: Mapping[str, Tensor]
    queries: Queries


def cut(
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    window: int,
    rng: np.random.Generator,
    stride: int | None = None,
) -> Windows:
    """Windows of at most `window` inputs that together use every event but a user's first as a target exactly once.

    Histories that fit are one window, in which a causal model sees each prefix at once. A longer one is cut at every `stride`
    targets from a place drawn anew each time, so that over the epochs every target is seen with contexts of every length, from
    `window - stride` inputs before it.

    Args:
        starts: first event of each user.
        stops: one past each user's last event; the last event is a target only.
        window: inputs a window, at most.
        rng: draws where long histories are cut.
        stride: targets of a window of a long history, at most; `window` where None. Fewer cost more, about `window / stride`
            times; with 1 every target is seen with all of its context, as when it is asked for (prefix training).

    Raises:
        ValueError: the stride is not between 1 and the window.
    """
    stride = window if stride is None else stride
    if not 1 <= stride <= window:
        raise ValueError(f"stride ({stride}) must lie between 1 and the window ({window})")
    inputs = stops - 1 - starts
    short = (inputs > 0) & (inputs <= window)
    pieces = [np.stack([starts[short], starts[short], stops[short] - 1], 1)]
    for start, length in zip(starts[inputs > window], inputs[inputs > window], strict=True):
        first = window - stride + rng.integers(1, stride + 1)
        edges = np.concatenate([[0], np.arange(first, length, stride), [length]])
        begins = np.maximum(edges[:-1] - (window - stride), 0)
        pieces.append(np.stack([begins, edges[:-1], edges[1:]], 1) + start)
    return np.concatenate(pieces)


def pack(lengths: NDArray[np.int64], size: int) -> list[list[int]]:
    """Which windows share a row of `size` tokens: best fit, in the order given.

    Returns:
        The indices of the windows of each row.

    Raises:
        ValueError: a window is longer than a row.
    """
    if lengths.max(initial=0) > size:
        raise ValueError(f"a window of {lengths.max()} tokens does not fit a row of {size}")
    packed: list[list[int]] = []
    rooms: list[list[int]] = [[] for _ in range(size + 1)]  # rooms[n]: rows with room for n more tokens
    for index, length in enumerate(lengths.tolist()):
        room = next((n for n in range(length, size) if rooms[n]), size)
        if room == size:
            packed.append([])
            row = len(packed) - 1
        else:
            row = rooms[room].pop()
        packed[row].append(index)
        rooms[room - length].append(row)
    return packed


class PackedOrder(Sampler[list[Windows]]):
    """The batches of an epoch, as lists of rows; the same seed and epoch give the same batches.

    Args:
        data: the events.
        stops: one past each user's last training event.
        window: inputs a window, and tokens a row, at most.
        tokens: targets a batch, about, and never less than a row may hold.
        seed: of the order, the cuts and the packing.
        stride: targets of a window of a long history, at most; `window` where None, see `cut`.

    Raises:
        InputError: no user has two training events, so that there is nothing to learn from.
    """

    def __init__(
        self,
        data: Interactions,
        stops: NDArray[np.int64],
        *,
        window: int,
        tokens: int,
        seed: int,
        stride: int | None = None,
    ) -> None:
        self.starts, self.stops = data.offsets[:-1], stops
        self.window, self.stride, self.seed, self.epoch = window, stride, seed, 0
        targets = int(np.maximum(stops - 1 - self.starts, 0).sum())
        if not targets:
            raise InputError(f"{data.name}: no user has two events to train on; add data, or lower min_count")
        # However they are packed, there are this many rows: the batches of every epoch are as many, and none is empty.
        rows_at_least = -(-targets // window)
        self.batches = min(max(1, round(targets / tokens)), rows_at_least)
        self.rows = rows_at_least // self.batches  # of a batch, at least

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration is; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Windows]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        windows = cut(self.starts, self.stops, self.window, rng, self.stride)
        windows = windows[rng.permutation(len(windows))]
        packed = pack(windows[:, 2] - windows[:, 0], self.window)
        for batch in np.array_split(rng.permutation(len(packed)), self.batches):
            yield [windows[packed[row]] for row in batch]


class PackedRows(Dataset[Packed]):
    """Turns rows of windows into tensors.

    Args:
        data: the events.
        window: tokens a row.
        beside: what the model reads beside items and times.
        learned: which events are targets, bool [events]; all where None.
        seen: whether to tell what the users had seen.
        part: of each batch.
    """

    def __init__(
        self,
        data: Interactions,
        window: int,
        *,
        beside: Sequence[str] = (),
        learned: NDArray[np.bool_] | None = None,
        seen: bool = False,
        part: Part = Part(),  # noqa: B008
    ) -> None:
        self.data, self.window, self.beside, self.seen, self.part = data, window, beside, seen, part
        self.learned = learned

    def __getitem__(self, batch: list[Windows]) -> Packed:
        everywhere, batch = batch, batch[self.part.rank :: self.part.of]
        shape = (len(batch), self.window)
        inputs, targets, position, segment, time = (np.zeros(shape, np.int64) for _ in range(5))
        events = np.full(shape, -1)
        for row, windows in enumerate(batch):
            used = 0
            for number, (start, first, stop) in enumerate(windows.tolist(), 1):
                place = slice(used, used + stop - start)
                inputs[row, place] = self.data.items[start:stop]
                targets[row, place.stop - (stop - first) : place.stop] = self.data.items[first + 1 : stop + 1]
                position[row, place] = np.arange(stop - start)
                events[row, place] = np.arange(start, stop)
                segment[row, place] = number
                if self.data.times is not None:
                    time[row, place] = self.data.times[start:stop]
                used += stop - start
        at = Coordinates(*map(torch.from_numpy, (position, segment, time)))
        seen = self._seen(np.concatenate(batch)) if self.seen else None
        if self.learned is not None:
            targets *= self.learned[events + 1]
        weight = self.part.of * self._targets(batch) / max(self._targets(everywhere), 1)
        known = context.of_tokens(self.data, events, segment, self.beside)
        return Packed(torch.from_numpy(inputs), torch.from_numpy(targets), at, known, seen, weight)

    def _targets(self, rows: list[Windows]) -> int:
        if self.learned is None:
            return sum(int((windows[:, 2] - windows[:, 1]).sum()) for windows in rows)
        every = (window for windows in rows for window in windows.tolist())
        return sum(int(self.learned[first + 1 : stop + 1].sum()) for _, first, stop in every)

    def _seen(self, windows: Windows) -> Seen:
        _, firsts, stops = windows.T
        users = self.data.offsets[np.searchsorted(self.data.offsets, firsts, side="right") - 1]
        _, events = spans(users, stops)
        begins = np.cumsum(stops - users) - (stops - users)
        window, inputs = spans(firsts, stops)
        if self.learned is not None:
            kept = self.learned[inputs + 1]
            window, inputs = window[kept], inputs[kept]
        known = inputs + 1 - users[window]
        items = self.data.items[events].astype(np.int64)
        return Seen(*map(torch.from_numpy, (items, begins[window], begins[window] + known)))


class Histories(Dataset[Asked]):
    """Batches of histories of like length, for scoring.

    Args:
        data: what the queries point into.
        queries: to be asked.
        window: items of a history, at most.
        size: queries of a batch, at most.
        beside: what the model reads beside the items.
        part: of the batches.
    """

    def __init__(
        self,
        data: Interactions,
        queries: Queries,
        *,
        window: int,
        size: int,
        beside: Sequence[str] = (),
        part: Part = Part(),  # noqa: B008
    ) -> None:
        self.data, self.queries, self.window, self.beside = data, queries, window, beside
        order = np.argsort(np.minimum(queries.stops - queries.starts, window), kind="stable")
        self.batches = np.array_split(order, max(part.of, -(-len(order) // size)))[part.rank :: part.of]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Asked:
        if index >= len(self):
            raise IndexError(index)
        return ask(self.data, self.queries[self.batches[index]], self.window, self.beside)


def ask(data: Interactions, queries: Queries, window: int, beside: Sequence[str] = ()) -> Asked:
    """The last `window` items of each query's history, right-padded to the longest, and what else the model reads."""
    lengths = np.minimum(queries.stops - queries.starts, window)
    history = np.zeros((len(lengths), max(1, int(lengths.max(initial=0)))), np.int64)
    events = np.full_like(history, -1)
    for row, (stop, length) in enumerate(zip(queries.stops.tolist(), lengths.tolist(), strict=True)):
        history[row, :length] = data.items[stop - length : stop]
        events[row, :length] = np.arange(stop - length, stop)
    known = context.of_histories(data, queries, events, beside)
    return Asked(torch.from_numpy(history), torch.from_numpy(lengths), known, queries)


class InteractionBatches(pl.LightningDataModule):
    """Packed training batches and validation queries of one split.

    Several processes share the rows of each batch that one process would take, and the validation queries.

    Args:
        data: the prepared events.
        split: which of them are trained on and which are predicted.
        window: items of a history that the model looks at, at most.
        tokens: targets a training batch, about.
        seed: of the order of training.
        stride: targets of a window of a long history, at most; `window` where None, see `cut`.
        beside: what the model reads beside the items.
        learned: which events are targets of the training, bool [events]; all where None.
        seen: whether batches tell what the users had seen.
    """

    def __init__(
        self,
        data: Interactions,
        split: Split,
        *,
        window: int,
        tokens: int,
        seed: int,
        stride: int | None = None,
        beside: Sequence[str] = (),
        learned: NDArray[np.bool_] | None = None,
        seen: bool = False,
    ) -> None:
        super().__init__()
        self.spreads_itself = True
        self.learned = learned
        self.interactions, self.split, self.window, self.beside, self.seen = data, split, window, beside, seen
        self.order = PackedOrder(data, split.train_stops, window=window, tokens=tokens, seed=seed, stride=stride)

    @property
    def part(self) -> Part:
        """What this process takes."""
        trainer = self.trainer
        return Part() if trainer is None else Part(trainer.global_rank, trainer.world_size)

    def train_dataloader(self) -> DataLoader[Packed]:
        """Batches as `PackedOrder` draws them.

        Raises:
            InputError: there are more processes than rows in a batch.
        """
        if self.part.of > self.order.rows:
            raise InputError(
                f"tokens: a batch may have {self.order.rows} rows of {self.window} for {self.part.of} processes; "
                "raise tokens, or train on fewer devices"
            )
        rows = PackedRows(
            self.interactions, self.window, beside=self.beside, learned=self.learned, seen=self.seen, part=self.part
        )
        return DataLoader(rows, batch_size=None, sampler=self.order)

    def val_dataloader(self) -> DataLoader[Asked]:
        """All validation queries, shortest histories first."""
        size = at_once(self.interactions.item_count, 256)
        asked = Histories(
            self.interactions, self.split.valid, window=self.window, size=size, beside=self.beside, part=self.part
        )
        return DataLoader(asked, batch_size=None)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Queries stay where they are, as NumPy arrays."""
        if isinstance(batch, Asked):
            known = {name: tensor.to(device) for name, tensor in batch.beside.items()}
            return Asked(batch.history.to(device), batch.lengths.to(device), known, batch.queries)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)
