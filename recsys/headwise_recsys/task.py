"""How the recommender learns: loss, validation and optimiser, for Lightning."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwise.training.distributed import everywhere
from headwise.training.optimization import OptimizerSettings, adamw
from headwise.training.sparse import clip
from headwise_recsys.batches import Asked, Packed, ask
from headwise_recsys.interactions import Interactions
from headwise_recsys.losses import Loss, exact_softmax
from headwise_recsys.metrics import hit_rate, ndcg, ranks
from headwise_recsys.model import SASRec
from headwise_recsys.splits import Queries


class RecommenderTask(pl.LightningModule):
    """Next-item training of a SASRec; validation ranks the full catalogue.

    Args:
        model: the model.
        data: what validation queries point into.
        optimization: learning rate and its course.
        loss: what the model learns by.
    """

    def __init__(
        self, model: SASRec, data: Interactions, optimization: OptimizerSettings, loss: Loss = exact_softmax
    ) -> None:
        super().__init__()
        self.model, self.data, self.optimization, self.loss = model, data, optimization, loss
        self._ranks: list[NDArray[np.float64]] = []

    def training_step(self, batch: Packed, _: int) -> Tensor:
        """The mean loss over the positions that have a target."""
        learned = batch.targets > 0
        expected = self.model(batch.items, batch.at, batch.context)[learned]
        if len(expected):
            loss = self.loss(expected, batch.targets[learned], self.model.vectors, batch.seen) * batch.weight
        else:  # where only some events are targets, and none of them is here
            loss = expected.sum()
        # As many to each process, whose mean is then that over all targets.
        size = round(len(expected) / batch.weight) if len(expected) else 1
        options: dict[str, Any] = {"batch_size": size, "sync_dist": True}
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, **options)
        return loss

    def validation_step(self, batch: Asked, _: int) -> None:
        """Ranks of the targets among all items that may be given."""
        scores = self.model.scores(self.model.expects(batch.history, batch.lengths, *batch.beside.values()))
        self._ranks.append(ranks(scores.float().cpu().numpy(), self.data, batch.queries))

    def on_validation_epoch_end(self) -> None:
        """HR and NDCG over all queries, those of other processes too."""
        every = everywhere(np.concatenate(self._ranks))
        self._ranks.clear()
        self.log("valid/ndcg_10", float(ndcg(every, 10).mean()), prog_bar=True, sync_dist=True)
        self.log("valid/hr_10", float(hit_rate(every, 10).mean()), prog_bar=True, sync_dist=True)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """By the norm of all gradients together, of which those of the item table may be sparse."""
        if gradient_clip_val is not None:
            clip(self.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule."""
        return adamw(self.model, self.optimization, int(self.trainer.estimated_stepping_batches))


class ModelScorer:
    """A trained model as a scorer, to be judged by the evaluator that judges the baselines."""

    def __init__(self, model: SASRec) -> None:
        self.model = model.eval()

    @torch.inference_mode()
    def __call__(self, data: Interactions, queries: Queries) -> NDArray[np.float32]:
        """Scores [queries, items + 1]."""
        asked = ask(data, queries, self.model.window, self.model.beside)
        expected = self.model.expects(asked.history, asked.lengths, *asked.beside.values())
        scores: NDArray[np.float32] = self.model.scores(expected).numpy()
        return scores
