"""What an evaluation found, as plain values: written as JSON, drawn on the page, sent to the tracker."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Part:
    """Some of the queries.

    Attributes:
        queries: how many.
        hr_10: their HR@10.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    queries: int
    hr_10: float
    low: float
    high: float


@dataclass(frozen=True)
class Scored:
    """What one scorer did on the test queries of a split.

    Attributes:
        name: of a model, as it was called, or of a baseline.
        kind: which of these.
        metrics: means over the queries.
        intervals: 95 % of each.
        beyond: coverage, gini, novelty, popularity, lift and distance of the first ten.
        ties: metrics if every tie fell in the target's favour ("best") and if every tie fell against it ("worst").
        slices: HR@10 of parts of the queries: by what they are divided, then by part.
        curve: HR@1, HR@2, ... as far as lists go.
        shares: of all recommendations, on the 0 %, 1 %, ... 100 % most popular items.
        shuffled: for a model, metrics with shuffled histories: "all", and "all but the last".
        sampled: metrics among drawn items, where they were asked for.
    """

    name: str
    kind: Literal["model", "baseline"]
    metrics: Metrics
    intervals: Mapping[str, tuple[float, float]]
    beyond: Metrics
    ties: Mapping[str, Metrics]
    slices: Mapping[str, Mapping[str, Part]]
    curve: Sequence[float]
    shares: Sequence[float]
    shuffled: Mapping[str, Metrics]
    sampled: Metrics


@dataclass(frozen=True)
class Compared:
    """A model beside another scorer, on the same queries.

    Attributes:
        model: the one.
        other: the other.
        metric: which is compared.
        difference: of the means, model less other.
        low: lower end of its 95 % interval.
        high: upper end.
        p: of the paired randomisation test.
        corrected: the same after Holm, for all comparisons of the split together.
    """

    model: str
    other: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    corrected: float


@dataclass(frozen=True)
class SplitFindings:
    """One way to divide the data.

    Attributes:
        split: its name.
        queries: asked in the test.
        training: events before them, that baselines were fitted on.
        repeats: share of the targets that the history holds.
        again: whether items of the history may be given; else those targets are misses for everybody.
        query_time: whether the models are told when each target was chosen, as the baselines are not: figures of a class of
            their own.
        scored: models first, then baselines.
        refused: models whose figure would be false here, with the reason.
        compared: every model with everything else.
        asked: of all targets, the shares on the 0 %, 1 %, ... 100 % most popular items.
    """

    split: str
    queries: int
    training: int
    repeats: float
    again: bool
    query_time: bool
    scored: Sequence[Scored]
    refused: Mapping[str, str]
    compared: Sequence[Compared]
    asked: Sequence[float]

    @property
    def title(self) -> str:
        """The split, and what the models know beside histories."""
        return f"{self.split}{', query-time' if self.query_time else ''}"

    @property
    def models(self) -> list[Scored]:
        """Those that are not baselines."""
        return [each for each in self.scored if each.kind == "model"]


@dataclass(frozen=True)
class Findings:
    """A whole evaluation.

    Attributes:
        data: name, fingerprint, source and counts.
        models: what was evaluated: name as it was called, run, preset, own split, and what is worth knowing of each.
        splits: what was found on each.
        missing: splits that the data do not allow, with the reason.
        checks: what was verified, in words.
    """

    data: Mapping[str, Any]
    models: Sequence[Mapping[str, Any]]
    splits: Sequence[SplitFindings]
    missing: Mapping[str, str]
    checks: Sequence[str]

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)
