"""How recommender folders, as they are served, rank the test items of a data set, beside what costs nothing to build."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwise.errors import InputError
from headwise.model_folder import ModelCard
from headwise.significance import Comparison, compare, holm
from headwise_pipelines.recsys.findings import Compared, Findings, Scored, SplitFindings
from headwise_pipelines.recsys.judge import TESTED, Judge
from headwise_pipelines.recsys.presets import types_of
from headwise_pipelines.recsys.report import BASELINES, SPLITS, fitted_baselines
from headwise_pipelines.recsys.served import Served
from headwise_recsys.columns import Columns
from headwise_recsys.evaluation.leakage import check_split, leak
from headwise_recsys.interactions import Interactions
from headwise_recsys.metrics import Floats
from headwise_recsys.prepare import prepare
from headwise_recsys.splits import Split


@dataclass(frozen=True)
class Asked:
    """A model folder, as the user called it."""

    name: str
    folder: Path
    card: ModelCard

    @property
    def config(self) -> Mapping[str, Any]:
        """What it was trained by; empty where the card does not say."""
        config: Mapping[str, Any] = self.card.provenance.get("config", {})
        return config

    @property
    def trained_on(self) -> Mapping[str, str]:
        """Name and fingerprint of its data, and its split; empty strings where the card does not say."""
        data = self.card.provenance.get("data", {})
        return {
            "data": data.get("name", ""),
            "fingerprint": data.get("fingerprint", ""),
            "split": self.config.get("split", ""),
        }

    @property
    def refit(self) -> bool:
        """Whether it was trained on the validation events, too."""
        return bool(self.config.get("refit"))


def evaluate(
    models: Sequence[Asked],
    path: Path,
    *,
    splits: Sequence[str],
    work: Path,
    sampled: int = 0,
    other_data: bool = False,
) -> Findings:
    """Everything about the served answers of some models, and of the baselines, on the test queries of some splits.

    Args:
        models: compared with the baselines and each other, on the same queries.
        path: raw data, in any form that training reads.
        splits: "leave-one-out", "temporal" or both; of two, one that the data do not allow is left out.
        work: where prepared data are kept.
        sampled: also rank each target among so many drawn items; 0 does not.
        other_data: whether the data may be others than a model was trained on.

    Raises:
        InputError: something leaked, the data are others than the model's, or they allow no split.
    """
    if taken := next((model.name for model in models if model.name in BASELINES), ""):
        raise InputError(f"{taken}: a baseline is called so, too; name the folder as ./{taken}")
    least = max(int(model.config.get("min_count", 1)) for model in models)
    columns, users, targets = _read_as([model.config for model in models])
    data = prepare(path, work / "data", min_count=least, columns=columns, users=users)
    served = {model.name: Served(model.folder, data) for model in models}
    if not other_data:
        for model in models:
            _same_data(model, data)
    again, informed = _alike(served)
    found, missing = [], {}
    for name in splits:
        try:
            split = SPLITS[name](data, targets=targets)
            split = split.repeating() if again else split
        except InputError as error:
            if len(splits) == 1:
                raise
            missing[name] = str(error)
            continue
        check_split(data, split)
        found.append(_on_split(data, split, models, served, sampled, informed))
    if not found:
        raise InputError("; ".join(missing.values()))
    return Findings(
        data={
            "name": data.name,
            "fingerprint": data.fingerprint,
            "source": data.source,
            "users": data.users,
            "items": data.item_count,
            "events": data.events,
            "min_count": data.min_count,
        },
        models=[_facts(model, served[model.name]) for model in models],
        splits=found,
        missing=missing,
        checks=list(_checks(other_data, again)),
    )


def _read_as(configs: Sequence[Mapping[str, Any]]) -> tuple[Columns, str, tuple[str, ...]]:
    # What is read and what is asked for must be the same for all.
    ways = {
        (Columns(**config.get("columns", {})), str(config.get("users", "")), types_of(config.get("targets", "")))
        for config in configs
    }
    if len(ways) > 1:
        raise InputError(
            "the models read other columns of events or other tables of users, or predict other types of events; evaluate each "
            "by itself"
        )
    return ways.pop()


def _alike(served: Mapping[str, Served]) -> tuple[bool, bool]:
    # What may be recommended and what is told decides what is asked: all models must agree.
    kinds = {
        "recommends what was seen": [name for name, one in served.items() if one.repeats],
        "knows the query's time": [name for name, one in served.items() if one.query_time],
    }
    for what, names in kinds.items():
        if names and len(names) < len(served):
            raise InputError(f"{', '.join(names)}: {what}, the others do not; evaluate each kind by itself")
    again, informed = map(bool, kinds.values())
    return again, informed


def _same_data(model: Asked, data: Interactions) -> None:
    own = model.trained_on
    if own["fingerprint"] != data.fingerprint:
        what = (
            f"{own['data']} ({own['fingerprint'][:12]})" if own["fingerprint"] else "data that its card does not name"
        )
        raise InputError(
            f"{model.name}: was trained on {what}, these are {data.name} ({data.fingerprint[:12]}), or read otherwise: what is "
            "asked may have been trained on; give the data it was trained on, or say --other-data if you know that it was not"
        )


def _on_split(
    data: Interactions,
    split: Split,
    models: Sequence[Asked],
    served: Mapping[str, Served],
    sampled: int,
    informed: bool,
) -> SplitFindings:
    queries = split.test
    judge = Judge(data, split, sampled)
    refused = {model.name: reason for model in models if (reason := _refusal(model, data, split))}
    fair = {name: one for name, one in served.items() if name not in refused}
    _say(f"{split.name}: {len(queries):,} queries to {', '.join([*fair, 'the baselines'])}")
    scored: list[Scored] = [judge.model(name, one) for name, one in fair.items()]
    scored += [judge.baseline(name, scorer) for name, scorer in fitted_baselines(data, split)]
    return SplitFindings(
        split=split.name,
        queries=len(queries),
        training=int((split.train_stops - data.offsets[:-1]).sum()),
        repeats=judge.repeats,
        again=queries.repeats,
        query_time=informed,
        scored=scored,
        refused=refused,
        compared=_compared(list(fair), judge.values),
        asked=judge.shares(data.items[queries.targets]),
    )


def _refusal(model: Asked, data: Interactions, split: Split) -> str:
    own = model.trained_on
    if own["fingerprint"] != data.fingerprint or own["split"] in ("", split.name):
        return ""  # nothing can be verified, which --other-data took upon itself; or the split vouches for itself
    trained = SPLITS[own["split"]](data, targets=types_of(model.config.get("targets", "")))
    stops = trained.before_test if model.refit else trained.train_stops
    reason = leak(data, stops, split.test, in_time=split.name == "temporal")
    return f"it was trained on the {own['split']} split: {reason}" if reason else ""


def _compared(models: Sequence[str], values: Mapping[str, Mapping[str, Floats]]) -> list[Compared]:
    pairs = [
        (metric, model, other)
        for metric in TESTED
        for place, model in enumerate(models)
        for other in [*models[place + 1 :], *(name for name in values if name not in models)]
    ]
    tests: list[Comparison] = [compare(values[model][metric], values[other][metric]) for metric, model, other in pairs]
    corrected = holm([test.p for test in tests])
    return [
        Compared(model, other, metric, test.difference, test.low, test.high, test.p, p)
        for (metric, model, other), test, p in zip(pairs, tests, corrected, strict=True)
    ]


def _facts(model: Asked, served: Served) -> dict[str, object]:
    provenance = model.card.provenance
    return {
        "name": model.name,
        "card": model.card.name,
        "run": provenance.get("run", ""),
        "split": model.trained_on["split"],
        "data": model.trained_on["data"],
        "refit": model.refit,
        "start": provenance.get("start", {}).get("name", ""),
        "knows": served.known,
    }


def _checks(other_data: bool, again: bool) -> Iterator[str]:
    yield "no history holds its target or what came after it, and none holds another user's events"
    yield "no test or validation target is trained on, and no validation target is tested on"
    yield "on the temporal split nothing is trained on that is not older than every target"
    if not again:
        yield "no list of a model holds an item of its own history"
    if other_data:
        yield "not verified, by --other-data: that the models were not trained on what is asked"
    else:
        yield "the data are those that the models were trained on, by fingerprint"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
