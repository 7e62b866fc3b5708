"""From events to a registered recommender."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np
import torch

from headwise.attention import Bias, Kernel
from headwise.errors import InputError
from headwise.tracking.describe import DataFacts
from headwise.tracking.evidence import Evidence
from headwise.tracking.figures import attention_map, carried_recommendation
from headwise.training.checkpoints import restore
from headwise.training.fit import Fitted, fit
from headwise.training.sparse import make_sparse
from headwise.training.watching import Watch
from headwise.transformer import rollout
from headwise_pipelines.launch import Launched, Order, Outcome, curves, launch, say
from headwise_pipelines.mechanisms import added, biases, kernels
from headwise_pipelines.recsys.export import export, settings
from headwise_pipelines.recsys.losses import chosen
from headwise_pipelines.recsys.matching import rows
from headwise_pipelines.recsys.presets import RecsysConfig, SASRecSettings
from headwise_pipelines.recsys.report import CUTOFFS, SPLITS, baselines, other_split
from headwise_recsys.batches import Asked, InteractionBatches, ask
from headwise_recsys.context import EACH
from headwise_recsys.interactions import Interactions
from headwise_recsys.item_features import Feature
from headwise_recsys.leaving_out import drops
from headwise_recsys.metrics import evaluate, ndcg
from headwise_recsys.model import Content, PositionAndTime, SASRec, Sessions, sasrec
from headwise_recsys.prepare import prepare
from headwise_recsys.splits import Split, of_types, spans
from headwise_recsys.task import ModelScorer, RecommenderTask
from headwise_recsys.user_rows import size

MONITOR: Final = "valid/ndcg_10"
MODE: Final = "max"
SHOWN = 20  # items of history on an attention map


def train(order: Order, config: RecsysConfig) -> Outcome:
    """One run of the recommender, from raw events to a registered model."""
    data, split = _divided(order, config)
    with launch(order, facts(data)) as launched:
        task, fitted = _fit(launched, config, data, split)
        if config.refit:
            task, fitted = _refit(launched, config, data, split, fitted)
        model = task.model
        restore(task, fitted.best)
        model.cpu().eval()
        launched.run.figure("learning curves", curves(fitted, [MONITOR, "valid/hr_10"], order.preset))
        _draw_attention(launched, model, data, split)
        if config.model.query_time:
            launched.run.tag("class", "query-time")
        say(f"test{', query-time' * config.model.query_time}: the model and its baselines")
        tested = evaluate(ModelScorer(model), data, split.test)
        beside = baselines(data, split)
        card = launched.exported or export(
            model,
            data,
            split.valid,
            launched.model,
            launched.card("recommender", settings(model), tested.metrics(CUTOFFS)),
            config.export,
        )
        _report_other_split(launched, data, split, config.target_types)
        example = {name: value.numpy() for name, value in _example(data, split, model).items()}
        evidence = Evidence("ndcg_10", _asked(split, model), ndcg(tested.ranks, 10))
        return launched.finish(fitted, card, example, baselines=beside, evidence=evidence, mode=MODE)


def trial(order: Order, config: RecsysConfig, watch: Watch) -> Fitted:
    """One trial of a sweep: trained and validated, no more. The test part is not read, nothing is exported or registered."""
    data, split = _divided(order, config)
    with launch(order, facts(data)) as launched:
        return _fit(launched, config, data, split, watch)[1]


def data_of(order: Order, config: RecsysConfig) -> DataFacts:
    """The data that a run of this configuration is trained on, as a tracker describes it."""
    return facts(_divided(order, config)[0])


def build(config: RecsysConfig, data: Interactions, split: Split) -> SASRec:
    """The model of a configuration, with new weights.

    Raises:
        InputError: it would look at times of events or features of items that the data do not have.
    """
    model = config.model
    if model.timed and data.times is None:
        raise InputError(
            f"{data.name}: model.positions ({model.positions}), model.kernel ({model.kernel}) or model.query_time "
            f"({str(model.query_time).lower()}) need the time of each event and {data.source} has none; give data with a "
            "timestamp column, or choose others"
        )
    if model.event_types and data.types is None:
        raise InputError(
            f"{data.name}: model.event_types (true) needs to know what was done with each item; name the column of "
            f"{data.source} that tells it, as columns.event"
        )
    features = features_of(model, data)
    content = Content(features, model.width) if features else None
    made = sasrec(
        data.item_count,
        window=model.window,
        width=model.width,
        blocks=model.blocks,
        heads=model.heads,
        hidden=model.hidden or None,
        block=model.block,
        kernel=_kernel(model),
        positions=added(model.positions, model.width, model.window),
        rotary=model.positions == "rotary",
        bias=_bias(model),
        timed=model.timed,
        query_time=model.query_time,
        types=len(data.type_names) if model.event_types else 0,
        user=size(data.user_features) if model.user_features else 0,
        gated=model.gated,
        swiglu=model.swiglu,
        cosine=model.head == "cosine",
        transition=model.transition,
        repeats=config.repeats,
        content=content,
        chosen=None if content is None else _chosen_in_training(data, split),
        dropout=model.dropout,
    )
    if model.sparse:
        make_sparse(made, rows=data.item_count)
    return made


def facts(data: Interactions) -> DataFacts:
    """The data as a tracker describes it."""
    schema = {"user": "string", "item": "string"} | ({"timestamp": "long"} if data.times is not None else {})
    profile = {"users": data.users, "items": data.item_count, "events": data.events, "min_count": data.min_count}
    return DataFacts(data.name, data.fingerprint, data.source, schema, profile)


def features_of(model: SASRecSettings, data: Interactions) -> tuple[Feature, ...]:
    """The features of items that a model is made with.

    Raises:
        InputError: the data do not have them.
    """
    return chosen_of(model.features, data.features, data, "item")


def chosen_of(
    names: str, features: Sequence[Feature], data: Interactions, of: Literal["item", "user"]
) -> tuple[Feature, ...]:
    """The features that a setting names, with commas between, or all.

    Raises:
        InputError: the data do not have them.
    """
    if not names:
        return ()
    known = {feature.name: feature for feature in features}
    wanted = list(known) if names == "all" else [name.strip() for name in names.split(",")]
    if not known or not known.keys() >= set(wanted):
        flag, remedy = {
            "item": ("features", "put a table of items beside the events"),
            "user": ("user_features", "name a table of users as users"),
        }[of]
        raise InputError(
            f"{data.name}: model.{flag} ({names}) asks for what is not known of its {of}s; known: "
            f"{', '.join(known) or f'nothing, {remedy}'}"
        )
    return tuple(known[name] for name in wanted)


def _chosen_in_training(data: Interactions, split: Split) -> torch.Tensor:
    _, events = spans(data.offsets[:-1], split.train_stops)
    counts = np.bincount(data.items[events], minlength=data.item_count + 1)
    return torch.from_numpy(counts > 0)


def _kernel(model: SASRecSettings) -> Callable[[], Kernel]:
    head_width = model.width // model.heads
    if model.kernel == "sessions":
        return lambda: Sessions(head_width, model.gap)
    return kernels(model.kernel, head_width, reach=model.reach, ahead=0)


def _bias(model: SASRecSettings) -> Callable[[], Bias] | None:
    if model.positions == "timed":
        return lambda: PositionAndTime(model.heads, model.window)
    return biases(model.positions, model.heads, model.window)


def _divided(order: Order, config: RecsysConfig) -> tuple[Interactions, Split]:
    data = prepare(
        order.data, order.work / "data", min_count=config.min_count, columns=config.columns, users=config.users
    )
    data = replace(data, user_features=chosen_of(config.model.user_features, data.user_features, data, "user"))
    split = SPLITS[config.split](data, targets=config.target_types)
    if config.repeats:
        split = split.repeating()
    say(f"{data.name}: {data.users:,} users, {data.item_count:,} items, {data.events:,} events")
    say(f"{split.name}: {len(split.valid):,} validation and {len(split.test):,} test queries")
    return data, split


def _refit(
    launched: Launched, config: RecsysConfig, data: Interactions, split: Split, first: Fitted
) -> tuple[RecommenderTask, Fitted]:
    say(f"once more for {first.epoch} epochs, with the validation events")
    # Validated at its end alone, so that the last weights are kept: nothing can be chosen on events that are trained on.
    settings = replace(config.fit, epochs=first.epoch, patience=0, validate_every=first.epoch)
    whole = replace(split, train_stops=split.before_test)
    task, again = _fit(launched, replace(config, fit=settings), data, whole, again=True)
    return task, replace(first, best=again.best)


def _fit(
    launched: Launched,
    config: RecsysConfig,
    data: Interactions,
    split: Split,
    watch: Watch | None = None,
    *,
    again: bool = False,
) -> tuple[RecommenderTask, Fitted]:
    torch.manual_seed(config.fit.seed)
    model = build(config, data, split)
    launched.begin(model, lambda start: rows(start, model, data))
    task = RecommenderTask(model, data, config.optimizer, chosen(config.loss, data, split.train_stops))
    fitted = fit(
        task,
        InteractionBatches(
            data,
            split,
            window=config.model.window,
            tokens=config.tokens,
            seed=config.fit.seed,
            stride=config.stride or None,
            beside=model.beside,
            learned=of_types(data, config.target_types),
            seen=config.unseen,
        ),
        settings=config.fit,
        folder=launched.folder.path / "refit" if again else launched.folder.path,
        monitor=MONITOR,
        mode=MODE,
        tracker=None if again else launched.run,
        watch=watch,
    )
    return task, fitted


def _draw_attention(launched: Launched, model: SASRec, data: Interactions, split: Split) -> None:
    longest = int((split.valid.stops - split.valid.starts).clip(max=SHOWN).argmax())
    asked = ask(data, split.valid[slice(longest, longest + 1)], min(SHOWN, model.window), model.beside)
    with torch.inference_mode():
        weights = model.attention_weights(asked.history, asked.lengths, *asked.beside.values())
    names = [_label(data, item) for item in asked.history[0].tolist()]
    user = data.user_ids[int((data.offsets <= split.valid.starts[longest]).sum()) - 1]
    whose = f"the last {len(names)} items of user {user}"
    heads = weights[-1][0].numpy()
    launched.run.figure("attention", attention_map(heads, queries=names, keys=names, title=f"last block, {whose}"))
    item, fallen = _recommended(model, asked)
    carried = {"attention, share": rollout(weights)[0, -1].numpy(), "leave-one-out, fall of the score": fallen}
    figure = carried_recommendation(names, carried, recommended=_label(data, item), title=f"after {whose}")
    launched.run.figure("explanation", figure)


@torch.inference_mode()
def _recommended(model: SASRec, asked: Asked) -> tuple[int, np.ndarray]:
    """The best item after the only history in `asked`, and what each item of that did for it [time]."""
    [history], places = asked.history, range(asked.history.shape[1])

    def scores(left: Sequence[Sequence[int]]) -> torch.Tensor:
        rows = torch.tensor(left)
        beside = (known[0][rows] if name in EACH else known[[0] * len(rows)] for name, known in asked.beside.items())
        return model.scores(model.expects(history[rows], torch.full((len(rows),), rows.shape[1]), *beside))

    after = scores([places])[0]
    item = int(after.index_fill(0, torch.tensor([0, *history.tolist()]), -torch.inf).argmax())
    if len(places) == 1:
        return item, np.zeros(1, np.float32)
    [fallen] = drops(places, after[item : item + 1].numpy(), lambda some: scores(some)[:, [item]].numpy(), batch=SHOWN)
    return item, fallen


def _label(data: Interactions, item: int) -> str:
    title = data.titles[item - 1] if data.titles is not None else None
    return title or str(data.item_ids[item - 1])


def _report_other_split(launched: Launched, data: Interactions, split: Split, targets: Sequence[str]) -> None:
    # The model of this run has seen what the other split asks for, so there only the baselines can be told.
    other = other_split(data, split, targets)
    if other is None:
        say(f"{data.name} has no times: the baselines of the temporal split are left out")
        return
    for name, values in baselines(data, other).items():
        launched.run.metrics({f"{other.name}/baseline/{name}/{key}": value for key, value in values.items()}, step=0)


def _asked(split: Split, model: SASRec) -> str:
    seen = ", seen items too" if split.test.repeats else ""
    return f"{split.name}{seen}{', query-time' if 'at' in model.beside else ''}"


def _example(data: Interactions, split: Split, model: SASRec) -> dict[str, torch.Tensor]:
    asked = ask(data, split.valid[:1], model.window, model.beside)
    nothing = torch.zeros(1, 1, dtype=torch.long)
    return {
        "history": asked.history,
        "lengths": asked.lengths,
        **asked.beside,
        "k": torch.tensor(min(10, model.items)),
        "exclude": nothing,
        "allow": nothing,
    }
