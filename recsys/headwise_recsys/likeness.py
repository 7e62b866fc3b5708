"""How alike the items of a model folder are, by the model's own vectors and by their categories, for whoever answers requests."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwise.errors import InputError
from headwise.model_folder import ModelCard, read_table
from headwise_recsys.diversity import marginal_relevance, within_quotas

VECTORS = "vectors.npy"  # float16 [items + 1, width], what scores are products with; row 0 is padding
CATEGORIES = "categories.json"  # of each feature with tags, the first tag of each item


class Likeness:
    """The tables of a model folder, read when they are first asked for.

    Args:
        folder: a model folder.
        card: of its model.
    """

    def __init__(self, folder: Path, card: ModelCard) -> None:
        self._folder, self._files = folder, card.files

    def check(self, at_most: Mapping[str, int]) -> None:
        """Refuse what the folder has no tables for.

        Raises:
            InputError: the model was exported without vectors, does not know the feature, or more than one is named.
        """
        if VECTORS not in self._files:
            raise InputError(
                f"this model was exported without {VECTORS}, which diversity and at_most need; export it anew"
            )
        if len(at_most) > 1:
            raise InputError(f"at_most names {', '.join(at_most)}; one feature at a time")
        if unknown := at_most.keys() - self._categories.keys():
            known = ", ".join(self._categories) or "none"
            raise InputError(f"at_most names {unknown.pop()}; the features with categories of this model: {known}")

    def choose(
        self,
        items: NDArray[np.int64],
        scores: NDArray[np.float32],
        k: int,
        diversity: float,
        at_most: Mapping[str, int],
    ) -> NDArray[np.int64]:
        """Places of the items to show, of some that come best first.

        Args:
            items: [candidates] numbers 1..V.
            scores: [candidates].
            k: how many to choose, at most.
            diversity: see `marginal_relevance`.
            at_most: the most items of one category of a feature.
        """
        order = np.arange(len(items))
        if diversity:
            vectors = self._vectors[items].astype(np.float32)
            order = marginal_relevance(scores, vectors, len(items) if at_most else k, diversity=diversity)
        for feature, most in at_most.items():
            of = self._categories[feature]
            own = [of[item - 1] for item in items[order].tolist()]
            quotas = {category: most for category in own if category is not None}
            order = order[within_quotas(own, quotas, k)]
        return order[:k]

    @cached_property
    def _vectors(self) -> NDArray[np.float16]:
        vectors: NDArray[np.float16] = np.load(self._folder / VECTORS, mmap_mode="r", allow_pickle=False)
        return vectors

    @cached_property
    def _categories(self) -> Mapping[str, Sequence[str | None]]:
        if CATEGORIES not in self._files:
            return {}
        return read_table(self._folder / CATEGORIES, dict[str, list[str | None]])
