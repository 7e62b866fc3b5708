"""The graph that explains a model's answers, loaded when it is first asked: most servers never are."""

from collections.abc import Iterable
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from headwise.files import sha256
from headwise.model_folder import ModelCard
from headwise.serving.problems import Refusal
from headwise.serving.session import Session

GRAPH = "explanation.onnx"
OUTPUTS = ("attention",)


class Explanation:
    """What a model looked at; safe to use from several threads at once.

    Args:
        folder: a model folder.
        card: of the model that answers; the graph must still be the one that it vouches for when it is loaded.
        inputs: the names that the caller feeds.
        threads: for one run of the graph.
    """

    def __init__(self, folder: Path, card: ModelCard, *, inputs: Iterable[str], threads: int = 1) -> None:
        self._path, self._inputs, self._threads = folder / GRAPH, tuple(inputs), threads
        self._listed = card.files.get(GRAPH)
        self._lock = Lock()
        self._session: Session | None = None

    def attention(self, **feeds: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """The attention of one batch, in the graph's own shape.

        Raises:
            Refusal: 422, the model was exported without explanations; 503, the folder has changed since it was loaded.
            InputError: the graph is not one that this version of headwise reads.
        """
        [attention] = self._loaded().run(**feeds)
        return attention

    def _loaded(self) -> Session:
        with self._lock:
            if self._session is None:
                self._check()
                self._session = Session(self._path, inputs=self._inputs, outputs=OUTPUTS, threads=self._threads)
            return self._session

    def _check(self) -> None:
        if self._listed is None:
            detail = (
                f"this model was exported without {GRAPH}, so its answers cannot be explained; train or export it anew"
            )
            raise Refusal(422, f"{detail}, or ask without `explain`")
        # The folder was verified when the model was loaded; by now another version may lie there.
        if not self._path.is_file() or sha256(self._path) != self._listed["sha256"]:
            raise Refusal(503, f"{GRAPH} is no longer that of the model which answers; start the server anew")
