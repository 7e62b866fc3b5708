"""Training in two processes. Also a program, which torchrun starts: python test_processes.py FOLDER DEVICES"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from headwise.errors import InputError
from headwise.training.fit import fit
from headwise.training.optimization import OptimizerSettings
from headwise.training.settings import FitSettings
from headwise_recsys.batches import Histories, InteractionBatches, PackedOrder, PackedRows, Part
from headwise_recsys.interactions import Interactions
from headwise_recsys.model import sasrec
from headwise_recsys.splits import leave_one_out
from headwise_recsys.task import RecommenderTask

ITEMS, WINDOW, USERS = 23, 7, 131


def data() -> Interactions:
    rng = np.random.default_rng(3)
    lengths = rng.integers(5, 18, USERS)
    rows = [(rng.integers(ITEMS) + 3 * np.arange(length)) % ITEMS + 1 for length in lengths]
    return Interactions(
        items=np.concatenate(rows).astype(np.int32),
        times=None,
        offsets=np.cumsum([0, *lengths]),
        user_ids=list(range(USERS)),
        item_ids=list(range(1, ITEMS + 1)),
        titles=None,
        name="circles",
        fingerprint="",
        source="",
    )


def batches(tokens: int = 211) -> InteractionBatches:
    made = data()
    return InteractionBatches(made, leave_one_out(made), window=WINDOW, tokens=tokens, seed=3)


def main() -> None:
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    torch.manual_seed(3)
    model = sasrec(ITEMS, window=WINDOW, width=22, blocks=1, heads=1, dropout=0)
    fitted = fit(
        RecommenderTask(model, data(), OptimizerSettings(rate=1e-2, warmup=5)),
        batches(),
        settings=FitSettings(epochs=3, patience=0, average=0.9, accelerator="cpu", threads=1, devices=devices),
        folder=folder,
        monitor="valid/ndcg_10",
        mode="max",
    )
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in fitted.history]
    (folder / f"{torch.distributed.is_initialized() and torch.distributed.get_rank()}.json").write_text(
        json.dumps(rows)
    )


@pytest.mark.slow
def test_two_processes_learn_and_measure_what_one_does(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder, devices, start in (
        (alone, 1, [sys.executable]),
        (together, 2, [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]),
    ):
        folder.mkdir()
        subprocess.run([*start, __file__, str(folder), str(devices)], check=True, capture_output=True)
    [one] = [json.loads(path.read_text()) for path in alone.glob("*.json")]
    assert [path.name for path in together.glob("*.json")] == ["0.json"]  # the other process has ended
    for both, single in zip(json.loads((together / "0.json").read_text()), one, strict=True):
        assert both == pytest.approx(single, rel=5e-4)  # batches weigh half their targets, rounded
    weights = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (alone, together)
    ]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=2e-3, rtol=0)


def test_the_parts_of_a_batch_are_the_batch_and_weigh_as_much() -> None:
    made = data()
    order = PackedOrder(made, leave_one_out(made).train_stops, window=WINDOW, tokens=211, seed=3)
    batch = next(iter(order))
    whole = PackedRows(made, WINDOW)[batch]
    parts = [PackedRows(made, WINDOW, part=Part(rank, 3))[batch] for rank in range(3)]
    assert whole.weight == 1
    assert torch.equal(torch.cat([part.items for part in parts]).sort(0)[0], whole.items.sort(0)[0])
    learned = [int((part.targets > 0).sum()) for part in parts]
    assert [part.weight for part in parts] == pytest.approx([3 * count / sum(learned) for count in learned])
    assert len(set(learned)) > 1


def test_each_validation_query_is_asked_in_one_process() -> None:
    made = data()
    queries = leave_one_out(made).valid
    parts = [Histories(made, queries, window=WINDOW, size=17, part=Part(rank, 3)) for rank in range(3)]
    asked = np.concatenate([query.queries.targets for part in parts for query in part])
    assert sorted(asked) == sorted(queries.targets)
    assert min(len(Histories(made, queries, window=WINDOW, size=1000, part=Part(rank, 2))) for rank in range(2)) == 1


def test_more_processes_than_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    few = batches(tokens=11)
    monkeypatch.setattr(InteractionBatches, "part", Part(0, 4))
    with pytest.raises(InputError, match=r"tokens: a batch may have 1 rows of 7 for 4 processes; raise tokens"):
        few.train_dataloader()


if __name__ == "__main__":
    main()
