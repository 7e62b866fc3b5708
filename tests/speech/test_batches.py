import numpy as np
import pytest
import torch

from headwise_speech.batches import BatchOrder, Drawn, SpeechBatches, evenly
from headwise_speech.text import Vocabulary
from headwise_speech.utterances import Utterances

COUNT = 43


@pytest.fixture(scope="module")
def data() -> Utterances:
    rng = np.random.default_rng(5)
    lengths = rng.integers(1601, 16_001, COUNT)
    return Utterances(
        samples=rng.integers(-9973, 9973, lengths.sum()).astype(np.int16),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        ids=[f"u{i}" for i in range(COUNT)],
        texts=["YES", "NO NO"] * 21 + ["GO"],
        speakers=[""] * COUNT,
        splits=["train"] * 31 + ["valid"] * 7 + ["test"] * 5,
        sample_rate=16_000,
        name="noise",
        fingerprint="",
        source="",
    )


@pytest.fixture(scope="module")
def vocabulary(data: Utterances) -> Vocabulary:
    return Vocabulary.of(data.texts)


def order(data: Utterances, seed: int = 3, seconds: float = 2.3) -> BatchOrder:
    return BatchOrder(data.durations, data.subset("train"), seconds=seconds, speeds=(0.9, 1.0, 1.1), seed=seed)


def epoch(order: BatchOrder, number: int) -> list[list[Drawn]]:
    order.set_epoch(number)
    return list(order)


def test_an_epoch_follows_from_seed_and_number_alone(data: Utterances) -> None:
    first = order(data)
    played = [epoch(first, number) for number in range(3)]
    assert epoch(order(data), 2) == played[2]
    assert played[1] != played[2]
    assert epoch(order(data, seed=5), 2) != played[2]


def test_every_utterance_once_in_as_many_batches_as_promised(data: Utterances) -> None:
    drawn = order(data)
    for number in range(7):
        batches = epoch(drawn, number)
        assert len(batches) == len(drawn)
        assert sorted(u.utterance for batch in batches for u in batch) == list(range(31))


def test_batches_are_even_in_seconds(data: Utterances) -> None:
    for batch in epoch(order(data), 1):
        assert abs(sum(data.durations[u.utterance] / u.speed for u in batch) - 2.3) < 1.3


def test_evenly_by_hand() -> None:
    data = Utterances(
        np.zeros(10, np.int16), np.array([0, 4, 5, 6, 8, 10]), [""] * 5, [""] * 5, [""] * 5, [""] * 5, 1, "", "", ""
    )
    # Seconds 4 1 1 2 2: sorted 1 1 2 2 4, whose middles lie at 0.5 1.5 3 5 8 of 10; two batches part at 5.
    batches = evenly(data, np.arange(5), seconds=5)
    assert [[u.utterance for u in batch] for batch in batches] == [[1, 2, 3], [4, 0]]


def test_what_a_batch_holds(data: Utterances, vocabulary: Vocabulary) -> None:
    batches = SpeechBatches(data, vocabulary, seconds=2.3, seed=3)
    batch = batches.spoken[[Drawn(0, 1.0, 19), Drawn(1, 0.9, 23)]]
    lengths = np.diff(data.offsets)
    assert batch.lengths[0] == lengths[0]
    assert batch.lengths[1] == np.ceil(lengths[1] * 10 / 9)
    assert (batch.waveform[0, : lengths[0]].numpy() == data.waveform(0)).all()
    assert not batch.waveform[0, lengths[0] :].any()
    assert [vocabulary.decode(row) for row in batch.tokens.tolist()] == ["YES", "NO NO"]
    assert batch.token_lengths.tolist() == [3, 5]
    assert batch.seeds.tolist() == [19, 23]


def test_validation_hears_every_utterance_as_it_was_spoken(data: Utterances, vocabulary: Vocabulary) -> None:
    loader = SpeechBatches(data, vocabulary, seconds=0.7).val_dataloader()
    lengths = torch.cat([batch.lengths for batch in loader])
    assert sorted(lengths.tolist()) == sorted(np.diff(data.offsets)[31:38].tolist())
