"""Generated shopping histories, from a process so well known that the best possible recommender can be computed.

Every user has one of a few tastes, hidden from the recommender. The next item is drawn kind first ("desk lamp"), then material
("walnut"), never twice the same item:

    P(item | taste, history, week)  ∝  P(kind | taste, last two kinds) P(material | kind, taste, last material, week)

with items already in the history left out. Since the taste is one of a finite set, Bayes' rule gives its exact posterior after
any history, and with it the exact probability of every next item: no scorer ranks better on average. The last item alone tells
little: what follows it depends on the taste, which the whole history reveals, and on the item before it.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from headwise.errors import InputError, NotFound
from headwise.files import replacing
from headwise_recsys.ids import Id
from headwise_recsys.interactions import Interactions
from headwise_recsys.splits import Queries

KINDS = (
    *("desk", "desk lamp", "bookend", "pen tray"),
    *("sofa", "coffee table", "floor lamp", "throw"),
    *("bed frame", "nightstand", "reading light", "duvet cover"),
    *("dining table", "chair", "candle holder", "table runner"),
    *("chopping board", "spice rack", "kettle", "apron"),
    *("towel rail", "mirror", "soap dish", "laundry basket"),
    *("coat rack", "shoe bench", "key bowl", "umbrella stand"),
    *("garden bench", "planter", "lantern", "bird feeder"),
    *("crib", "toy chest", "night light", "rocking horse"),
    *("record shelf", "speaker stand", "picture frame", "wall clock"),
)  # a room a line
ROOM = 4  # kinds a room
MATERIALS = (
    *("walnut", "oak", "ash", "birch", "pine", "teak", "bamboo", "rattan", "cork"),
    *("linen", "wool", "cotton", "felt", "leather", "brass", "copper", "steel", "iron", "aluminium"),
    *("marble", "slate", "terracotta", "porcelain", "glass", "enamel"),
)
TASTES = 6
# How the next kind comes about: it goes with the last one (the taste decides what goes with what), it is that of the last item
# but one, it is a favourite of the taste, or anything.
COMPANION, RETURN, FAVOURITE, BROWSED = 0.4, 0.35, 0.15, 0.1
WEEKS = 52
WEEK = 7 * 24 * 3600  # seconds
START = 1_735_862_400  # seconds since 1970: Friday 3 January 2025, 00:00 UTC
WORLD = "shop.npz"

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shop:
    """The known process; tables are indexed by numbers of KINDS and MATERIALS, where one past the last means "none yet"."""

    cells: Array  # int64 [items]: kind * materials + material
    habits: Floats  # [tastes, kinds + 1, kinds + 1, kinds]: next kind, given the last but one and the last
    likings: Floats  # [tastes, materials + 1, materials]: weight of the next material, given the last
    popularity: Floats  # [weeks, items]: weight of an item among its kind

    @property
    def tastes(self) -> int:
        """Number of tastes; a user has each with the same chance."""
        return len(self.habits)

    @cached_property
    def kind(self) -> Array:
        """Kind of each item; item -1 is no item."""
        return np.append(self.cells // len(MATERIALS), len(KINDS))

    @cached_property
    def material(self) -> Array:
        """Material of each item; item -1 is no item."""
        return np.append(self.cells % len(MATERIALS), len(MATERIALS))

    @cached_property
    def titles(self) -> list[str]:
        """Names for people, such as "walnut desk lamp"."""
        return [f"{MATERIALS[m]} {KINDS[k]}" for k, m in zip(self.kind[:-1], self.material[:-1], strict=True)]

    @cached_property
    def _shares(self) -> Floats:
        # [tastes, materials + 1, weeks, kinds]: what the weights of a kind's items sum to.
        weights = np.zeros((WEEKS, len(KINDS) * len(MATERIALS)))
        weights[:, self.cells] = self.popularity
        grid = weights.reshape(WEEKS, len(KINDS), len(MATERIALS))
        return np.asarray(np.einsum("zlm,wkm->zlwk", self.likings, grid, optimize=True))

    def chances(self, taste: Array, before: Array, last: Array, week: Array, item: Array) -> Floats:
        """P(item | taste, last two items, week), items already taken not yet left out; arguments broadcast, item -1 is none."""
        kind, material = self.kind[item], self.material[last]
        next_kind = self.habits[taste, self.kind[before], self.kind[last], kind]
        weight = self.likings[taste, material, self.material[item]] * self.popularity[week, item]
        return np.asarray(next_kind * weight / self._shares[taste, material, week, kind])


@dataclass(frozen=True, eq=False)
class Visits:
    """Who took what when, each user's events in time order, users one after another."""

    users: Array  # int64 [events]
    items: Array  # int64 [events], from 0
    times: Array  # int64 [events], seconds since 1970


def open_shop(items: int = 500, seed: int = 0) -> Shop:
    """A shop of `items` items, with its own companions, tastes and fashions.

    Raises:
        InputError: `items` is not between 2 and 25 for each of the 40 kinds.
    """
    least, most = 2 * len(KINDS), len(KINDS) * len(MATERIALS)
    if not least <= items <= most:
        raise InputError(
            f"items ({items}) must be from {least} to {most}: 2 to {len(MATERIALS)} materials of {len(KINDS)} kinds"
        )
    rng = np.random.default_rng([seed, 1])
    order = np.argsort(rng.random((len(KINDS), len(MATERIALS))), axis=1) + np.arange(len(KINDS))[:, None] * len(
        MATERIALS
    )
    cells = rng.permutation(order.T.ravel()[:items])
    return Shop(cells, _habits(rng), _likings(rng), _popularity(items, rng))


def generate(shop: Shop, users: int = 3_000, seed: int = 0, events: int = 30) -> Visits:
    """Histories drawn from the shop's process, about `events` events a user (at least a third of that)."""
    rng = np.random.default_rng([seed, 2])
    items = shop.popularity.shape[1]
    shortest = events // 3
    lengths = np.minimum(shortest + rng.poisson(rng.gamma(2, (events - shortest) / 2, users)), items // 2)
    lengths = -np.sort(-lengths)  # longest first, so that those still shopping are always the first rows
    times = _times(lengths, rng)
    tastes = rng.integers(shop.tastes, size=users)
    taken = np.full((users, lengths[0]), -1)
    unseen = np.ones((users, items))
    console = Console(stderr=True)
    for step in track(range(lengths[0]), "Shop", console=console, transient=True, disable=not console.is_terminal):
        n = int((lengths > step).sum())
        before, last = _context(taken[:n], step)
        chances = (
            shop.chances(tastes[:n, None], before, last, _weeks(times[:n, step, None]), np.arange(items)) * unseen[:n]
        )
        reached = np.cumsum(chances, axis=1)
        taken[:n, step] = (reached <= rng.random((n, 1)) * reached[:, -1:]).sum(axis=1)
        unseen[np.arange(n), taken[:n, step]] = 0
    rows = rng.permutation(users)  # a user's number says nothing of the length of the history
    there = taken[rows] >= 0
    return Visits(np.nonzero(there)[0], taken[rows][there], times[rows][there])


def write(folder: Path, *, users: int = 3_000, items: int = 500, events: int = 30, seed: int = 0) -> Visits:
    """Generate histories and write what a shop has, and the process behind it.

        events.csv    user, item, timestamp
        items.csv     item, title, material, kind
        shop.npz      the process

    The events of all users are in order of time, as a shop's log would be; the same arguments give the same bytes.
    """
    shop = open_shop(items, seed)
    visits = generate(shop, users, seed, events)
    order = np.argsort(visits.times, kind="stable")
    log = zip(visits.users[order].tolist(), visits.items[order].tolist(), visits.times[order].tolist(), strict=True)
    _write_csv(folder / "events.csv", ("user", "item", "timestamp"), ((f"user-{u}", item_id(i), t) for u, i, t in log))
    goods = zip(shop.titles, shop.material[:-1].tolist(), shop.kind[:-1].tolist(), strict=True)
    rows = ((item_id(i), title, MATERIALS[m], KINDS[k]) for i, (title, m, k) in enumerate(goods))
    _write_csv(folder / "items.csv", ("item", "title", "material", "kind"), rows)
    with replacing(folder / WORLD) as path, path.open("wb") as file:
        np.savez_compressed(file, **{f.name: getattr(shop, f.name) for f in fields(Shop)})
    return visits


def item_id(item: int) -> str:
    """The shop's own id of an item, such as "sku-0421"."""
    return f"sku-{item:04d}"


@dataclass(frozen=True, eq=False)
class BestPossible:
    """The scorer that knows the process: P(next item | history, times), exact for the event that follows the history.

    It answers as any `Scorer` does, so that `evaluate` gives the optimum of generated data. An item of probability p comes
    next in a share p of the cases, so that the sum of the ten largest is the HR@10 to expect.
    """

    shop: Shop

    def __call__(self, data: Interactions, queries: Queries) -> NDArray[np.float32]:
        """Probabilities [queries, items + 1] of each item being next; 0 for padding and for items of the history.

        Raises:
            InputError: the data has no times, or items that are not the shop's.
        """
        if data.times is None:
            raise InputError(
                f"{data.name}: has no times, and what is best depends on them; read events.csv as it was written"
            )
        own = self._own_numbers(data)
        lengths = queries.stops - queries.starts
        steps = np.arange(lengths.max(initial=0))
        there = steps < lengths[:, None]
        places = np.where(there, queries.starts[:, None] + steps, 0)
        history = np.where(there, own[data.items[places]], -1)
        weeks = _weeks(data.times[places])
        chances = next_chances(self.shop, history, lengths, weeks, _weeks(data.times[queries.targets]))
        return np.pad(chances[:, own[1:]], ((0, 0), (1, 0))).astype(np.float32)

    def _own_numbers(self, data: Interactions) -> Array:
        numbers: dict[Id, int] = {item_id(i): i for i in range(len(self.shop.cells))}
        unknown = [i for i in data.item_ids if i not in numbers]
        if unknown:
            raise InputError(
                f"{data.name}: {unknown[0]!r} is not an item of this shop (nor are {len(unknown) - 1} others); "
                "give the events.csv that lies beside its shop.npz"
            )
        return np.array([-1, *(numbers[i] for i in data.item_ids)])


def best_possible(folder: Path) -> BestPossible:
    """The best possible scorer for the events that `write` put into `folder`.

    Raises:
        NotFound: the folder has no `shop.npz`.
        InputError: it cannot be read.
    """
    path = folder / WORLD
    if not path.is_file():
        raise NotFound(
            f"{path}: no such file; only generated data has a best possible score, make some with `shopping.write`"
        )
    try:
        with np.load(path) as tables:
            return BestPossible(Shop(**{f.name: tables[f.name] for f in fields(Shop)}))
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"{path}: cannot be read ({error}); generate the data again") from error


def next_chances(shop: Shop, history: Array, lengths: Array, weeks: Array, week: Array) -> Floats:
    """P(next item | history) by Bayes' rule over the tastes: sum over tastes of P(taste | history) P(item | taste, history).

    Args:
        shop: the process.
        history: items [batch, time] from 0, right-padded with -1.
        lengths: items of each history [batch].
        weeks: week of each item [batch, time].
        week: week of the next item [batch].

    Returns:
        Probabilities [batch, items], each row summing to 1.
    """
    batch = np.arange(len(history))
    padded = np.pad(history, ((0, 0), (2, 0)), constant_values=-1)
    before, last = padded[batch, lengths][:, None, None], padded[batch, lengths + 1][:, None, None]
    items = np.arange(len(shop.cells))
    chances = shop.chances(np.arange(shop.tastes)[:, None], before, last, week[:, None, None], items)
    seen = np.zeros((len(history), len(items) + 1), bool)
    seen[batch[:, None], history] = True  # padding, -1, falls into the last column
    chances *= ~seen[:, None, :-1]
    chances /= chances.sum(axis=-1, keepdims=True)
    return np.asarray(np.einsum("bz,bzi->bi", taste_posterior(shop, history, lengths, weeks), chances))


def taste_posterior(shop: Shop, history: Array, lengths: Array, weeks: Array) -> Floats:
    """P(taste | history) [batch, tastes], exact: the chance of each step is normalised over the items not yet taken by then."""
    taste = np.arange(shop.tastes)
    surprise = np.zeros((len(history), shop.tastes))
    for step in range(history.shape[1]):
        rows = lengths > step
        past = history[rows]
        before, last = _context(past, step)
        now = weeks[rows, step, None]
        chance = shop.chances(taste, before, last, now, past[:, step, None])
        taken = shop.chances(taste[:, None], before[:, None], last[:, None], now[:, None], past[:, None, :step])
        surprise[rows] -= np.log(chance) - np.log1p(-taken.sum(axis=-1))
    likelihood = np.exp(surprise.min(axis=1, keepdims=True) - surprise)
    return np.asarray(likelihood / likelihood.sum(axis=1, keepdims=True))


def _habits(rng: np.random.Generator) -> Floats:
    kinds = len(KINDS)
    browsed = 1 / (3 + rng.permutation(kinds))
    browsed /= browsed.sum()
    favourites = np.stack([_favoured(kinds // ROOM, 3, 0.85, rng).repeat(ROOM) / ROOM for _ in range(TASTES)])
    companions = np.zeros((TASTES, kinds + 1, kinds))
    for taste in range(TASTES):
        for kind in range(kinds):
            neighbour = kind // ROOM * ROOM + (kind + rng.integers(1, ROOM)) % ROOM
            companions[taste, kind, neighbour] += 0.7
            companions[taste, kind, rng.choice(kinds, p=favourites[taste])] += 0.3
    companions[:, kinds] = favourites
    returns = np.concatenate([np.broadcast_to(np.eye(kinds), (TASTES, kinds, kinds)), favourites[:, None]], axis=1)
    steady = FAVOURITE * favourites + BROWSED * browsed
    return np.asarray(steady[:, None, None] + COMPANION * companions[:, None] + RETURN * returns[:, :, None])


def _likings(rng: np.random.Generator) -> Floats:
    materials = len(MATERIALS)
    loved = np.stack([_favoured(materials, 4, 0.8, rng) for _ in range(TASTES)])
    matching = 1 + 3 * np.concatenate([np.eye(materials), np.zeros((1, materials))])
    return np.asarray(loved[:, None] * matching)


def _popularity(items: int, rng: np.random.Generator) -> Floats:
    ranked = (1.0 + rng.permutation(items)) ** -0.5
    fashion = np.sin(2 * np.pi * (np.arange(WEEKS)[:, None] / WEEKS + rng.random(items)))
    return np.asarray(ranked * np.exp(0.7 * fashion))


def _favoured(size: int, favourites: int, share: float, rng: np.random.Generator) -> Floats:
    weights = np.full(size, (1 - share) / (size - favourites))
    weights[rng.permutation(size)[:favourites]] = share / favourites
    return weights


def _times(lengths: Array, rng: np.random.Generator) -> Array:
    size = (len(lengths), lengths[0])
    pauses = np.where(rng.random(size) < 0.75, 180, 6 * 24 * 3600)  # seconds: within a visit, to the next one
    gaps = 1 + rng.exponential(pauses).astype(np.int64)
    return np.asarray(START + rng.integers((WEEKS - 8) * WEEK, size=(len(lengths), 1)) + np.cumsum(gaps, axis=1))


def _weeks(times: Array) -> Array:
    return np.asarray(np.clip((times - START) // WEEK, 0, WEEKS - 1))  # fashion stands still after the year


def _context(history: Array, step: int) -> tuple[Array, Array]:
    none = np.full((len(history), 1), -1)
    before = history[:, step - 2, None] if step > 1 else none
    return before, history[:, step - 1, None] if step > 0 else none


def _write_csv(target: Path, header: tuple[str, ...], rows: Iterator[tuple[Any, ...]]) -> None:
    with replacing(target) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
