"""The recommender that answers requests: the user's own ids in, the user's own ids out. NumPy and ONNX Runtime, no torch."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response

from headwise.errors import InputError
from headwise.examples import Examples
from headwise.model_folder import ModelCard, read_card, read_table
from headwise.serving.batching import Batcher
from headwise.serving.bodies import json_response, read_json
from headwise.serving.explanation import Explanation
from headwise.serving.inference import Inference
from headwise.serving.problems import Refusal
from headwise.serving.service import Endpoint, Socket
from headwise.serving.session import Session
from headwise_recsys.beside import TYPES, Beside, Reading, known_of_users, padded
from headwise_recsys.ids import Id
from headwise_recsys.leaving_out import drops
from headwise_recsys.likeness import Likeness
from headwise_recsys.schemas import (
    MAX_EXPLAINED,
    POOL,
    Feature,
    Model,
    Read,
    Recommendation,
    RecommendationRequest,
    Recommendations,
    described,
)

KIND = "recommender"
PATH = "/v1/recommendations"
GRAPH = "recommender.onnx"
INPUTS = ("history", "lengths", "k", "exclude", "allow")
OUTPUTS = ("items", "scores")
EXPLAINED_INPUTS = ("history", "lengths")
MAX_EXPLAINING = 16  # explanations that wait; each asks the model once for every item of its history
MAX_BYTES = 1 << 20  # of a request's body: room for an allow list of 100,000 ids
MAX_REQUESTS = 1024
MAX_BATCH = 32
USUAL_K = 10
NAMED = 10  # unknown ids that a message spells out; the problem document lists all


@dataclass(frozen=True)
class Query:
    """One request in the model's own numbers: items are 1..V, no padding yet."""

    history: Sequence[int]
    k: int
    exclude: Sequence[int]
    allow: Sequence[int]  # empty: everything
    beside: Beside = Beside()  # noqa: RUF009 - frozen


Ranking = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]  # items [k] and scores [k], best first


@dataclass(frozen=True)
class Reasons:
    """What a ranking came from, in the order of the query's history."""

    history: Sequence[int]
    attention: npt.NDArray[np.float32]  # [time], sums to 1
    drops: npt.NDArray[np.float32]  # [k, time]


class Recommender:
    """A recommender folder, loaded; a `headwise.serving.service.Service`. Made by `load`."""

    kind = KIND

    def __init__(
        self,
        card: ModelCard,
        session: Session,
        explanation: Explanation,
        ids: Sequence[Id],
        titles: Sequence[str | None],
        likeness: Likeness,
        reads: Reading,
        name: str,
        version: str | None,
    ) -> None:
        self.card = card
        self.name = name
        self.version = version
        self.window = int(card.settings["window"])  # items of history that the graph reads
        self.max_k = min(int(card.settings["max_k"]), len(ids))
        self.repeats = bool(card.settings.get("repeats"))  # whether items of the history may be recommended again
        self.reads = reads
        self.batcher: Batcher[Query, Ranking] = Batcher(self._rank, shape=_shape, max_batch=MAX_BATCH)
        self._explaining: Batcher[tuple[Query, Ranking], Reasons] = Batcher(
            lambda asked: [self._reasons(*each) for each in asked], max_batch=1, max_queue=MAX_EXPLAINING
        )
        self.inference = Inference(
            session,
            model=name,
            version=version,
            most={
                "history": (MAX_BATCH, self.window),
                "exclude": (MAX_BATCH, len(ids)),
                "allow": (MAX_BATCH, len(ids)),
            },
        )
        self._session = session
        self._explanation = explanation
        self._ids = ids
        self._titles = titles
        self._likeness = likeness
        self._numbers = {own: number for number, own in enumerate(ids, start=1)}
        self._decoder = msgspec.json.Decoder(RecommendationRequest)

    def recommend(
        self,
        history: Sequence[Id],
        k: int | None = None,
        *,
        exclude: Sequence[Id] = (),
        allow: Sequence[Id] | None = None,
        times: Sequence[float] | None = None,
        at: float | None = None,
        events: Sequence[str] | None = None,
        user: Mapping[str, Feature] | None = None,
        diversity: float = 0.0,
        at_most: Mapping[str, int] | None = None,
        explain: bool = False,
    ) -> Recommendations:
        """The k best next items for a history, oldest first.

        Items of the history are not recommended, unless the model has `repeats`. The model reads the last `window` of them.

        Args:
            history: the user's own ids; at least one.
            k: 1 to `max_k`; 10 by default, or `max_k` where that is less.
            exclude: further items not to recommend.
            allow: the only items to recommend; None allows all, an empty list none.
            times: of the history in seconds, for a model that is `timed`.
            at: when it is asked, in seconds, for a model that reads `query_time`; None is now.
            events: what was done with each item of the history, for a model that has `event_types`.
            user: what is known of the user, for a model that has `user_features`.
            diversity: from 0 to 1, how unlike each other the items shall be.
            at_most: how many items may share a category of a feature.
            explain: add what the answer came from.

        Raises:
            InputError: an id or a feature that the model does not know, an empty history, times that are missing or do not fit,
                k out of bounds, or a model without explanations.
        """
        allowed = None if allow is None else list(allow)
        request = RecommendationRequest(
            list(history),
            k,
            list(exclude),
            allowed,
            diversity=diversity,
            at_most=dict(at_most or {}),
            times=None if times is None else list(times),
            at=at,
            events=None if events is None else list(events),
            user=None if user is None else dict(user),
            explain=explain,
        )
        query, unknown = self._encode(request)
        ranking = self._chosen(self._rank([query])[0], request) if query else None
        reasons = self._reasons(query, ranking) if explain and query and ranking else None
        return self._decode(ranking, unknown, reasons, explain)

    def recommend_many(
        self, histories: Sequence[Sequence[Id]], k: int = 10, *, beside: Sequence[Beside] = ()
    ) -> list[list[Id]]:
        """The k best next items of many histories, ids alone, or all there are in a smaller catalogue; for evaluation.

        Ids that the model does not know are passed over; a history without one that it knows gets no items.

        Args:
            histories: the users' own ids, oldest first.
            k: 1 to `max_k`.
            beside: what the model reads beside each history, if anything.

        Raises:
            InputError: k is out of bounds.
        """
        given = zip(histories, beside or [Beside()] * len(histories), strict=True)
        known = [self._read(history, each) for history, each in given]
        found = self.rank_many([items for items, _ in known], k, beside=[each for _, each in known])
        return [[self._ids[item - 1] for item in items.tolist()] for items, _ in found]

    def rank_many(
        self,
        histories: Sequence[Sequence[int]],
        k: int,
        *,
        allow: Sequence[Sequence[int]] = (),
        beside: Sequence[Beside] = (),
    ) -> list[Ranking]:
        """The k best next items of many histories with their scores, or all there are, in the catalogue's own numbers.

        Args:
            histories: numbers 1..V as `numbers` gives them, oldest first; an empty one gets no items.
            k: 1 to `max_k`.
            allow: for each history the only items to recommend; empty for the whole catalogue.
            beside: what the model reads beside each history, if anything.

        Raises:
            InputError: k is out of bounds.
        """
        k = min(k, len(self._ids))
        self._check_k(k)
        given = zip(histories, allow or [()] * len(histories), beside or [Beside()] * len(histories), strict=True)
        queries = [self._query(list(history), k, (), some, known) for history, some, known in given]
        answers: list[Ranking] = [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(histories)
        asked = sorted((n for n, query in enumerate(queries) if query.history), key=lambda n: len(queries[n].history))
        for start in range(0, len(asked), MAX_BATCH):
            batch = asked[start : start + MAX_BATCH]
            for n, ranking in zip(batch, self._rank([queries[n] for n in batch]), strict=True):
                answers[n] = _eligible(ranking)
        return answers

    @property
    def catalogue(self) -> int:
        """How many items it knows, V."""
        return len(self._ids)

    @property
    def ids(self) -> Sequence[Id]:
        """The users' own ids of its items; `ids[i - 1]` is item i."""
        return self._ids

    def numbers(self, ids: Sequence[Id]) -> list[int]:
        """The catalogue's own number of each id, 0 where it does not know one."""
        return [self._numbers.get(own, 0) for own in ids]

    def own_id(self, text: str) -> Id:
        """The id that a person means by a word on the command line: as text if the model knows it so, else as a number."""
        if text not in self._numbers and text.removeprefix("-").isdecimal():
            return int(text)
        return text

    @property
    def endpoints(self) -> list[Endpoint]:
        """`POST /v1/recommendations`."""
        operation, schemas = described(KIND, self._example())
        return [Endpoint(PATH, self._answer, operation, schemas, MAX_BYTES, MAX_REQUESTS)]

    @property
    def sockets(self) -> list[Socket]:
        """None."""
        return []

    def agreement(self, first: bytes, second: bytes) -> float:
        """The share of recommended items that two answers have in common."""
        mine, theirs = ({item["id"] for item in msgspec.json.decode(body)["items"]} for body in (first, second))
        return len(mine & theirs) / max(len(mine), len(theirs), 1) if mine or theirs else 1.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Warms the graph up, then answers requests inside the block."""
        longest = Query([1] * self.window, self.max_k, [], [], self.reads.longest(self.window))
        self._rank([longest])
        async with self.batcher.running(), self._explaining.running():
            yield

    async def _answer(self, request: Request) -> Response:
        asked = await read_json(request, self._decoder)
        query, unknown = self._encode(asked)
        ranking = self._chosen(await self.batcher.submit(query), asked) if query else None
        reasons = await self._explaining.submit((query, ranking)) if asked.explain and query and ranking else None
        return json_response(self._decode(ranking, unknown, reasons, asked.explain))

    def _encode(self, request: RecommendationRequest) -> tuple[Query | None, list[Id]]:
        # No query: an allow list without a single known item leaves nothing to recommend.
        if not request.history:
            raise InputError("history is empty; give at least one item")
        k = self._k(request)
        self._check_k(k)
        if request.diversity or request.at_most:
            self._likeness.check(request.at_most)
            k = min(self.max_k, max(POOL, k))
        if request.explain and self._k(request) > MAX_EXPLAINED:
            raise InputError(f"k is {self._k(request)}; with explain it is {MAX_EXPLAINED} at most")
        given = [*request.history, *request.exclude, *(request.allow or [])]
        unknown = [own for own in dict.fromkeys(given) if own not in self._numbers]
        if unknown and request.on_unknown == "error":
            raise Refusal(422, self._unknown_message(unknown), unknown=unknown)
        history, beside = self._read(request.history, self.reads.read(request))
        if not history:
            raise Refusal(422, "history holds no item that this model knows; give at least one", unknown=unknown)
        allow = self._known(request.allow or [])
        if request.allow is not None and not allow:
            return None, unknown
        return self._query(history, k, self._known(request.exclude), allow, beside), unknown

    def _query(
        self,
        history: list[int],
        k: int,
        exclude: Sequence[int] = (),
        allow: Sequence[int] = (),
        beside: Beside = Beside(),  # noqa: B008 - frozen
    ) -> Query:
        # What the graph does not read of the history it must still not recommend.
        older, recent = history[: -self.window], history[-self.window :]
        barred = exclude if self.repeats else [*older, *exclude]
        return Query(recent, k, barred, allow, beside.of(range(len(older), len(history))))

    def _read(self, history: Sequence[Id], beside: Beside) -> tuple[list[int], Beside]:
        known = [place for place, own in enumerate(history) if own in self._numbers]
        return [self._numbers[history[place]] for place in known], beside.of(known)

    def _k(self, request: RecommendationRequest) -> int:
        return min(USUAL_K, self.max_k) if request.k is None else request.k

    def _chosen(self, ranking: Ranking, request: RecommendationRequest) -> Ranking:
        if not (request.diversity or request.at_most):
            return ranking
        items, scores = _eligible(ranking)
        places = self._likeness.choose(items, scores, self._k(request), request.diversity, request.at_most)
        return items[places], scores[places]

    def _check_k(self, k: int) -> None:
        if not 1 <= k <= self.max_k:
            raise InputError(f"k is {k}; this model recommends 1 to {self.max_k} items")

    def _known(self, given: Sequence[Id]) -> list[int]:
        return [self._numbers[own] for own in given if own in self._numbers]

    def _unknown_message(self, unknown: Sequence[Id]) -> str:
        named = ", ".join(json.dumps(own, ensure_ascii=False)[:64] for own in unknown[:NAMED])
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        twins = [own for own in unknown if (_twin(own) in self._numbers)]
        hint = f" (this model's ids are {'numbers' if isinstance(twins[0], str) else 'strings'})" if twins else ""
        return (
            f'items that this model does not know: {named}{more}{hint}; leave them out, or send "on_unknown": "ignore"'
        )

    def _rank(self, queries: Sequence[Query]) -> list[Ranking]:
        most = max(query.k for query in queries)
        items, scores = self._session.run(
            history=padded([query.history for query in queries]),
            lengths=np.array([len(query.history) for query in queries], np.int64),
            k=np.array(most, np.int64),
            exclude=padded([query.exclude for query in queries]),
            allow=padded([query.allow for query in queries]),
            **self.reads.arrays([query.beside for query in queries]),
        )
        return [(items[row, : query.k], scores[row, : query.k]) for row, query in enumerate(queries)]

    def _reasons(self, query: Query, ranking: Ranking) -> Reasons:
        history, lengths = padded([query.history]), np.array([len(query.history)], np.int64)
        [attention] = self._explanation.attention(history=history, lengths=lengths, **self.reads.arrays([query.beside]))
        items, scores = _eligible(ranking)

        def ask(kept: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
            # Allowed alone, the same items come back whatever is left out; each row has them in an order of its own.
            found = self._rank([self._of(query, places, items.tolist()) for places in kept])
            by_number = np.array([scores[np.argsort(numbers)] for numbers, scores in found])
            return by_number[:, np.argsort(np.argsort(items))]

        places = range(len(query.history))
        return Reasons(query.history, attention, drops(places, scores, ask, batch=MAX_BATCH))

    def _of(self, query: Query, places: Sequence[int], allow: Sequence[int]) -> Query:
        return Query([query.history[place] for place in places], len(allow), [], allow, query.beside.of(places))

    def _decode(
        self, ranking: Ranking | None, unknown: list[Id], reasons: Reasons | None, explain: bool
    ) -> Recommendations:
        items, scores = (column.tolist() for column in _eligible(ranking)) if ranking else ([], [])
        fallen = reasons.drops.tolist() if reasons and reasons.drops.size else [None] * len(items)
        found = [
            Recommendation(self._ids[item - 1], score, self._titles[item - 1], falls)
            for item, score, falls in zip(items, scores, fallen, strict=True)
        ]
        shares = zip(reasons.history, reasons.attention.tolist(), strict=True) if reasons else ()
        read = [Read(self._ids[item - 1], share, self._titles[item - 1]) for item, share in shares]
        return Recommendations(found, Model(self.name, self.version), unknown, read if explain else msgspec.UNSET)

    def _example(self) -> dict[str, Any]:
        history = list(self._ids[:3])
        return {"history": history, "k": min(5, self.max_k), **self.reads.example(len(history))}


def load(folder: Path, *, name: str = KIND, version: str | None = None, threads: int = 1) -> Recommender:
    """The recommender in a model folder, ready to be asked.

    Args:
        folder: a model folder of kind "recommender".
        name: what clients call it.
        version: its version in the registry.
        threads: for one run of the graph.

    Raises:
        NotFound: there is no model folder.
        InputError: it is of another kind, damaged, or from another version of headwise.
    """
    card = read_card(folder)
    if card.kind != KIND:
        raise InputError(f"{folder}: a {card.kind}, a {KIND} is needed here")
    for key in ("window", "max_k"):
        if not isinstance(card.settings.get(key), int):
            raise InputError(
                f"{folder}/model.json: settings.{key} is {card.settings.get(key)!r}, not a number; export again"
            )
    ids: list[Id] = read_table(folder / "items.json", list[Id])
    titles: list[str | None] = [None] * len(ids)
    if (folder / "titles.json").is_file():
        titles = read_table(folder / "titles.json", list[str | None])
    if not ids or len(titles) != len(ids):
        raise InputError(f"{folder}: items.json holds {len(ids)} ids, titles.json {len(titles)} titles; export again")
    types: list[str] = read_table(folder / TYPES, list[str]) if card.settings.get("event_types") else []
    features = known_of_users(folder) if card.settings.get("user_features") else ()
    reads = Reading(card.settings, types, features)
    session = Session(folder / GRAPH, inputs=(*INPUTS, *reads.inputs), outputs=OUTPUTS, threads=threads)
    if kept := Examples.load(folder):
        kept.check(session.run, OUTPUTS, folder / GRAPH)
    explanation = Explanation(folder, card, inputs=(*EXPLAINED_INPUTS, *reads.inputs), threads=threads)
    return Recommender(card, session, explanation, ids, titles, Likeness(folder, card), reads, name, version)


def _eligible(ranking: Ranking) -> Ranking:
    # Where nothing more is eligible the graph says -inf.
    items, scores = ranking
    eligible = scores > -np.inf
    return items[eligible], scores[eligible]


def _shape(query: Query) -> tuple[int, int, int]:
    # Rows are padded to the longest of a batch; powers of two keep at least half of every row real.
    return len(query.history).bit_length(), len(query.exclude).bit_length(), len(query.allow).bit_length()


def _twin(own: Id) -> Id | None:
    if isinstance(own, int):
        return str(own)
    return int(own) if own.isdecimal() and len(own) < 20 else None
