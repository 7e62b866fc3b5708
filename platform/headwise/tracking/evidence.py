"""What a model was worth on every test case, kept with its run, so that a later model can be tested against it."""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from headwise.tracking.connection import answered, connect
from headwise.tracking.local import LocalRun
from headwise.tracking.run import Run

FILE = "test_cases.json"


@dataclass(frozen=True, eq=False)
class Evidence:
    """One number a test case.

    Attributes:
        metric: what the numbers are, such as `ndcg_10` of each query or the word errors of each utterance.
        test: what was asked, such as the name of the split; the numbers of two models are pairs only where it is the same.
        values: in the order of the test, float64 [cases].
    """

    metric: str
    test: str
    values: NDArray[np.float64]

    def keep(self, run: Run | LocalRun) -> None:
        """Writes it into a run as `test_cases.json`."""
        facts = {"metric": self.metric, "test": self.test, "values": self.values.tolist()}
        run.text(FILE, json.dumps(facts) + "\n")


def evidence_of(run: str) -> Evidence | None:
    """The evidence that a run kept; None where it kept none.

    Raises:
        NotFound: there is no such run.
    """
    client = connect().MlflowClient()
    with TemporaryDirectory(prefix="headwise-") as scratch, answered():
        if not any(entry.path == FILE for entry in client.list_artifacts(run)):
            return None
        facts = json.loads(Path(client.download_artifacts(run, FILE, scratch)).read_text(encoding="utf-8"))
    return Evidence(facts["metric"], facts["test"], np.asarray(facts["values"], np.float64))
