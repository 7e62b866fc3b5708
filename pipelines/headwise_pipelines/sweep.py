"""`headwise sweep`: many trainings of one preset, each with other values, judged on validation alone.

Values are drawn by a tree-structured Parzen estimator (Bergstra et al. 2011), and a trial that is behind the median of the
earlier ones at the same epoch is ended there. What a sweep knows is in its folder:

    .headwise/sweeps/<product>-<preset>-<hash>/
        study.db        Optuna's: every trial, its values and its score at every epoch
        trials/         a run folder each; checkpoints go when the trial ends
        best.yaml       the best configuration so far, for `headwise train --config`

The same command goes on where it was stopped, and asking for more trials goes on where it had ended. A sweep that was killed
ends as one that was not: a trial draws from the seed and from the trials that ended before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

import yaml
from rich.console import Console

from headwise.errors import InputError, NotFound
from headwise.files import replacing
from headwise.tracking.children import fail_running
from headwise.tracking.local import LocalRun
from headwise.tracking.opening import open_run
from headwise.tracking.run import Run
from headwise.training.runs import RunFolder, run_folder
from headwise_pipelines.configuration import configure, plain
from headwise_pipelines.launch import Order, existing, say
from headwise_pipelines.space import Space, flat, space_of
from headwise_pipelines.sweep_figure import trials_figure
from headwise_pipelines.training import NAMES
from headwise_pipelines.trials import FLAGS, UNDISTURBED, Product, Trials

if TYPE_CHECKING:
    import optuna

STUDY, BEST = "study.db", "best.yaml"
FIXED = ("min_count", "split")  # they decide what validation asks


def sweep(
    product: Literal["recsys", "speech"],
    preset: str,
    flags: Sequence[str],
    *,
    data: Path | None,
    search: Sequence[str],
    trials: int,
    seed: int,
    work: Path,
    quiet: bool = False,
) -> Mapping[str, Any]:
    """The best values of a space, by so many trials; prints them as a command line of `headwise train` unless `quiet`.

    Args:
        product: "recsys" or "speech".
        preset: the run to start from.
        flags: what to change in it for all trials.
        data: the raw data.
        search: what is searched, in lines as `headwise_pipelines.space` describes them.
        trials: how many shall have ended in all, with those of earlier commands.
        seed: of what is drawn.
        work: where prepared data and sweeps are kept.
        quiet: print nothing to standard output.

    Raises:
        InputError: Optuna is not installed, the space is none of this preset, or no trial could be trained.
    """
    if find_spec("optuna") is None:
        raise InputError("optuna is not installed; install headwise with its sweeps: pip install 'headwise[tune]'")
    made = _product(product)
    if preset not in made.presets:
        raise NotFound(f"there is no preset {preset!r} for {product}; there are: {', '.join(made.presets)}")

    def configured(more: Sequence[str]) -> Any:
        return configure(
            made.presets[preset], [*flags, *more], command=f"headwise sweep {product} {preset}", again=None
        )

    config = configured([])
    if config.fit.devices > 1 or config.fit.hosts > 1:
        raise InputError("a sweep trains in one process: leave fit.devices and fit.hosts at 1")
    space = space_of(search, flat(plain(config)))
    if fixed := [each.name for each in space if each.name in FIXED]:
        raise InputError(f"--search {fixed[0]}: it decides what validation asks; trials could not be compared")
    order = Order(product, preset, plain(config), existing(data, preset), NAMES[product], work)
    facts = made.data_of(order, config)
    identity = {"config": order.config, "space": [str(each) for each in space], "data": facts.fingerprint, "seed": seed}
    tags = {"product": product, "preset": preset, "data": facts.name}
    with (
        run_folder(work / "sweeps", f"{product}-{preset}", identity) as folder,
        open_run(product, f"sweep {preset}", folder.path, tags=tags, resume=folder.tracker) as run,
        _study(folder.path, made.mode) as study,
    ):
        _describe(run, folder, order, facts, space)
        sought = Trials(study, made, order, configured, space, folder.path, seed)
        sought.clear()
        while len(sought.ended) < trials:
            told = sought.one()
            if told.value is not None:
                run.metrics({f"trials/{made.monitor}": told.value}, step=told.number + 1)
        answer = _answer(sought, run, folder)
    if not quiet:
        _print(answer, order)
    return answer


def _product(product: str) -> Product:
    if product == "recsys":
        from headwise_pipelines.recsys import presets, train

        return Product(presets.PRESETS, train.trial, train.data_of, train.MONITOR, train.MODE)
    from headwise_pipelines.speech import presets as speech_presets
    from headwise_pipelines.speech import train as speech
    from headwise_speech.task import MONITOR

    return Product(speech_presets.PRESETS, speech.trial, speech.data_of, MONITOR, speech.MODE)


def _describe(run: Run | LocalRun, folder: RunFolder, order: Order, facts: Any, space: Space) -> None:
    say(f"sweep {run.id} in {folder.path}: {', '.join(map(str, space))}")
    if folder.tracker != run.id:
        run.config({"product": order.product, "preset": order.preset, "space": list(map(str, space)), **order.config})
        run.dataset(facts)
        folder.tracked_by(run.id)
    elif isinstance(run, Run):
        fail_running(run.id)


@contextmanager
def _study(folder: Path, mode: Literal["min", "max"]) -> Iterator["optuna.Study"]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / STUDY}")
    try:
        yield optuna.create_study(
            storage=storage,
            study_name="sweep",
            direction="minimize" if mode == "min" else "maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=UNDISTURBED),
            load_if_exists=True,
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _answer(sought: Trials, run: Run | LocalRun, folder: RunFolder) -> dict[str, Any]:
    best, made = sought.best, sought.product
    assert best.value is not None, "what was trained whole has a score"
    flags = best.user_attrs[FLAGS]
    text = yaml.safe_dump(plain(sought.configured(flags)), sort_keys=False)
    with replacing(folder.path / BEST) as draft:
        draft.write_text(text, encoding="utf-8")
    run.text(BEST, text)
    run.metrics({f"best/{made.monitor}": best.value}, step=len(sought.study.trials))
    run.tag("best trial", str(best.number + 1))
    run.figure("trials", trials_figure(sought.shown, sought.space, metric=made.monitor, mode=made.mode))
    states = [each.state.name for each in sought.study.trials]
    return {
        "product": sought.order.product,
        "preset": sought.order.preset,
        "trials": {
            "whole": states.count("COMPLETE"),
            "ended early": states.count("PRUNED"),
            "failed": states.count("FAIL"),
        },
        "metric": made.monitor,
        "best": {"trial": best.number + 1, "score": best.value, "flags": flags},
        "config": str(folder.path / BEST),
        "folder": str(folder.path),
        "run": run.where,
    }


def _print(answer: Mapping[str, Any], order: Order) -> None:
    best, trials = answer["best"], ", ".join(f"{count} {state}" for state, count in answer["trials"].items())
    command = f"headwise train {order.product} {order.preset} --data {quote(str(order.data))}"
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"trials   {trials}")
    console.print(f"best     trial {best['trial']}: {answer['metric']} {best['score']:.4f}, {' '.join(best['flags'])}")
    console.print(f"train    {command} --config {answer['config']}")
    console.print(f"run      {answer['run']}")
