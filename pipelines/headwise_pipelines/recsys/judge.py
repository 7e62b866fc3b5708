"""What one scorer after another did on the same queries."""

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from headwise.errors import InputError
from headwise.significance import compare, interval, intervals
from headwise_pipelines.recsys.findings import Metrics, Part, Scored
from headwise_pipelines.recsys.served import Served
from headwise_recsys.evaluation import beyond_accuracy as beyond
from headwise_recsys.evaluation.answers import Answers, answer, per_query
from headwise_recsys.evaluation.leakage import seen_again
from headwise_recsys.evaluation.sampled import negatives, sampled_metrics, sampled_ranks
from headwise_recsys.evaluation.shuffling import shuffled
from headwise_recsys.evaluation.slices import by_history, by_popularity
from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import Floats, Scorer
from headwise_recsys.splits import Split

DEEP = 100  # items of a list that are looked at
CUTOFFS = (1, 5, 10, 20)
TOP = 10  # items of a list that are judged beyond accuracy
TESTED = ("ndcg_10", "hr_10")
PERCENT = np.linspace(0, 1, 101)


class Judge:
    """Judges scorers on the test queries of one split, and keeps what each query was worth to each of them."""

    def __init__(self, data: Interactions, split: Split, sampled: int) -> None:
        self.data, self.queries = data, split.test
        self.values: dict[str, Mapping[str, Floats]] = {}
        self._known = beyond.known(data, split.train_stops)
        self._before = beyond.history_popularity(data, self.queries, self._known)
        self._parts = {
            "popularity of the target": by_popularity(data, self.queries, self._known.events),
            "items of history": by_history(self.queries),
        }
        self._drawn = negatives(data, self.queries, sampled) if sampled else None

    @property
    def repeats(self) -> float:
        """Share of the targets that are in their own history."""
        return seen_again(self.data.items[self.queries.targets][:, None], self.data, self.queries) / len(self.queries)

    def model(self, name: str, served: Served) -> Scored:
        """What the service answers, and what it answers after shuffled histories.

        Raises:
            InputError: it recommends what the history holds.
        """
        answers = served.answers(self.data, self.queries, depth=DEEP)
        if not self.queries.repeats and (again := seen_again(answers.items, self.data, self.queries)):
            raise InputError(
                f"{name}: {again:,} of {len(self.queries):,} lists hold an item of their own history, which is never "
                "recommended; export the model again"
            )
        ranks = None if self._drawn is None else served.sampled_ranks(self.data, self.queries, self._drawn)
        without = {"all": 0, "all but the last": 1}
        disordered = {what: self._disordered(name, served, answers, keep) for what, keep in without.items()}
        return self._scored(name, "model", answers, ranks, disordered)

    def baseline(self, name: str, scorer: Scorer) -> Scored:
        """What a scorer of the whole catalogue answers."""
        answers = answer(scorer, self.data, self.queries, depth=DEEP)
        ranks = None if self._drawn is None else sampled_ranks(scorer, self.data, self.queries, self._drawn)
        return self._scored(name, "baseline", answers, ranks, {})

    def shares(self, items: np.ndarray) -> list[float]:
        """How much of `items` falls on the 0 %, 1 %, ... 100 % most popular items."""
        cumulative = np.concatenate([[0], beyond.share_by_popularity(items, self._known)])
        return _plain(np.interp(PERCENT * self.data.item_count, np.arange(len(cumulative)), cumulative))

    def _disordered(self, name: str, served: Served, ordered: Answers, keep: int) -> Metrics:
        data = shuffled(self.data, self.queries, window=served.window, keep=keep)
        answers = served.answers(data, self.queries, depth=CUTOFFS[-1])
        values, before = per_query(answers.ranks, CUTOFFS), per_query(ordered.ranks, CUTOFFS)
        lost = compare(before["ndcg_10"], values["ndcg_10"])
        low, high = interval(values["ndcg_10"])
        means = {metric: float(values[metric].mean()) for metric in TESTED}
        return means | {"low": low, "high": high, "lost": lost.difference, "p": lost.p}

    def _scored(
        self,
        name: str,
        kind: Literal["model", "baseline"],
        answers: Answers,
        ranks: Floats | None,
        disordered: Mapping[str, Metrics],
    ) -> Scored:
        values = self.values[name] = per_query(answers.ranks, CUTOFFS)
        ends = intervals(np.stack(list(values.values()), axis=1))
        return Scored(
            name=name,
            kind=kind,
            metrics={metric: float(value.mean()) for metric, value in values.items()},
            intervals={metric: (float(low), float(high)) for metric, (low, high) in zip(values, ends, strict=True)},
            beyond=self._beyond(answers.items[:, :TOP]),
            ties={"best": _tied(answers.best), "worst": _tied(answers.worst)},
            slices={what: dict(_parts(parts, values["hr_10"])) for what, parts in self._parts.items()},
            curve=_plain((answers.ranks[:, None] <= np.arange(1, answers.items.shape[1] + 1)).mean(axis=0)),
            shares=self.shares(answers.items[:, :TOP]),
            shuffled=disordered,
            sampled={} if ranks is None or self._drawn is None else sampled_metrics(ranks, self._drawn.shape[1]),
        )

    def _beyond(self, lists: beyond.Lists) -> Metrics:
        shown = float(beyond.popularity(lists, self._known).mean())
        return {
            "coverage": beyond.coverage(lists, self.data.item_count),
            "gini": beyond.gini(lists, self.data.item_count),
            "novelty": float(beyond.novelty(lists, self._known).mean()),
            "popularity": shown,
            "lift": shown / self._before if self._before else 0.0,
            "distance": float(beyond.distance(lists, self._known).mean()),
        }


def _tied(ranks: Floats) -> Metrics:
    values = per_query(ranks, CUTOFFS)
    return {metric: float(values[metric].mean()) for metric in TESTED}


def _parts(parts: Mapping[str, np.ndarray], values: Floats) -> Iterator[tuple[str, Part]]:
    for name, mask in parts.items():
        low, high = interval(values[mask])
        yield name, Part(int(mask.sum()), float(values[mask].mean()), low, high)


def _plain(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]
