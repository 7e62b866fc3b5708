"""The trials of a sweep: each draws values, trains, and is ended early where it falls behind."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headwise.errors import HeadwiseError, InputError
from headwise.training.fit import Fitted
from headwise.training.randomness import derived
from headwise.training.watching import Watch
from headwise_pipelines.configuration import plain
from headwise_pipelines.launch import Order, Trial, say
from headwise_pipelines.space import Space
from headwise_pipelines.sweep_figure import Shown

if TYPE_CHECKING:
    import optuna

TRIALS = "trials"
UNDISTURBED = 5  # trials before any is ended early
REFUSED, FLAGS = "refused", "flags"  # what a trial keeps: why it could not be tried, and its values as flags


@dataclass(frozen=True)
class Product:
    """How the trials of a product are made and judged.

    Attributes:
        presets: by name.
        trial: trains one and reads no test data.
        data_of: what the data are.
        monitor: the validation metric.
        mode: whether a better one is lower or higher.
    """

    presets: Mapping[str, Callable[[], Any]]
    trial: Callable[[Order, Any, Watch], Fitted]
    data_of: Callable[[Order, Any], Any]
    monitor: str
    mode: Literal["min", "max"]


class Trials:
    """The trials of one study, made one after another.

    Args:
        study: Optuna's.
        product: how a trial is made.
        order: what all trials share.
        configured: the configuration with some flags on top.
        space: what is drawn.
        folder: of the sweep.
        seed: of what is drawn; the n-th trial draws from it, from n, and from the trials that ended before.
    """

    def __init__(
        self,
        study: "optuna.Study",
        product: Product,
        order: Order,
        configured: Callable[[Sequence[str]], Any],
        space: Space,
        folder: Path,
        seed: int,
    ) -> None:
        self.study, self.product, self.order, self.configured = study, product, order, configured
        self.space, self.folder, self.seed = space, folder, seed

    @property
    def ended(self) -> list["optuna.trial.FrozenTrial"]:
        """Those that came to an end of their own: whole, ended early, or refused; not those that were killed."""
        return [each for each in self.study.trials if each.state.is_finished() and _of_its_own(each)]

    @property
    def best(self) -> "optuna.trial.FrozenTrial":
        """The best of those that were trained whole.

        Raises:
            InputError: none was.
        """
        if not any(each.state.name == "COMPLETE" for each in self.study.trials):
            reasons = [each.user_attrs[REFUSED] for each in self.study.trials if REFUSED in each.user_attrs]
            raise InputError(f"no trial was trained to its end; the first was refused: {(reasons or ['killed'])[0]}")
        return self.study.best_trial

    @property
    def shown(self) -> list[Shown]:
        """Those that have a score."""
        return [
            Shown(each.number + 1, each.value, each.state.name == "COMPLETE", each.params)
            for each in self.study.trials
            if each.value is not None
        ]

    def clear(self) -> None:
        """After a process that was killed: its trial is marked as failed, and what it wrote is removed."""
        import optuna

        for left in self.study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            self.study.tell(left.number, state=optuna.trial.TrialState.FAIL)
            say(f"trial {left.number + 1} was not trained to its end: marked as failed")
        self._drop_checkpoints()

    def one(self) -> "optuna.trial.FrozenTrial":
        """Draws the next trial, trains it, and tells the study."""
        import optuna

        self.study.sampler = optuna.samplers.TPESampler(seed=derived(self.seed, len(self.ended), 0))
        trial = self.study.ask()
        flags = [f"--{each.name}={each.draw(trial)}" for each in self.space]
        trial.set_user_attr(FLAGS, flags)
        say(f"trial {trial.number + 1}: {' '.join(flags)}")
        try:
            state, score = self._trained(trial, flags)
        except HeadwiseError as error:  # values that do not go together, or a loss that is no number
            trial.set_user_attr(REFUSED, str(error))
            state, score = optuna.trial.TrialState.FAIL, None
        except BaseException:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        told = self.study.tell(trial, score, state=state)
        self._drop_checkpoints()
        say(f"trial {trial.number + 1}: {self._outcome(told)}")
        return told

    def _trained(self, trial: "optuna.Trial", flags: Sequence[str]) -> tuple["optuna.trial.TrialState", float | None]:
        import optuna

        config = self.configured(flags)
        last = 0

        def watch(epoch: int, score: float) -> bool:
            nonlocal last
            last = epoch
            trial.report(score, epoch)
            return not trial.should_prune()

        place = Trial(trial.number + 1, self.folder / TRIALS)
        fitted = self.product.trial(replace(self.order, config=plain(config), trial=place), config, watch)
        if trial.should_prune() and last < config.fit.epochs:
            return optuna.trial.TrialState.PRUNED, None
        return optuna.trial.TrialState.COMPLETE, fitted.score

    def _outcome(self, told: "optuna.trial.FrozenTrial") -> str:
        if REFUSED in told.user_attrs:
            return f"refused: {told.user_attrs[REFUSED]}"
        if told.state.name == "PRUNED":
            return f"ended after epoch {told.last_step}, {told.value:.4f} is behind the median"
        return f"{self.product.monitor} {told.value:.4f}, the best so far is {self.study.best_value:.4f}"

    def _drop_checkpoints(self) -> None:
        # The best is trained anew, with its test; what was logged stays.
        for checkpoints in (self.folder / TRIALS).glob("*/checkpoints"):
            shutil.rmtree(checkpoints)


def _of_its_own(trial: "optuna.trial.FrozenTrial") -> bool:
    return trial.state.name != "FAIL" or REFUSED in trial.user_attrs
