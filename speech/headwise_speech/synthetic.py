"""A corpus with more to train on: its own training texts, said once more by synthetic voices."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, pairwise, product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
from rich.console import Console
from rich.progress import Progress

from headwise.errors import InputError
from headwise_speech.synthesis import ACCENTS, PITCHES, TIMBRES, Utterance, recorded, spoken
from headwise_speech.text import normalise
from headwise_speech.utterances import SYNTHETIC, Utterances, load, quantise, write

_FULL_SCALE = 32_768  # int16 counts for 1.0


def with_synthetic(data: Utterances, folder: Path, *, share: float, seed: int) -> Utterances:
    """Prepared speech with synthetic training utterances after its own; synthesised only where it has not been before.

    Args:
        data: the corpus.
        folder: where prepared data are kept; the result lies in `folder/<name>-synthetic-<fingerprint>`, whole or not at all.
        share: of synthetic ones among all training utterances, from 0 to below 1.
        seed: of texts, voices and channels.

    Raises:
        InputError: espeak-ng is not installed.
    """
    count = round(len(data.subset("train")) * share / (1 - share))
    if not count:
        return data
    recipe = json.dumps([data.fingerprint, count, seed])
    fingerprint = hashlib.sha256(recipe.encode()).hexdigest()
    target = folder / f"{data.name}-synthetic-{fingerprint[:12]}"
    with suppress(InputError):  # not synthesised yet, or damaged since
        return load(target)
    utterances = said_again(data, count, seed)
    own = [
        {"id": identity, "text": text, "speaker": speaker, "split": split}
        for identity, text, speaker, split in zip(data.ids, data.texts, data.speakers, data.splits, strict=True)
    ]
    more = [{"id": u.id, "text": u.text, "speaker": u.speaker, "split": u.split} for u in utterances]
    samples = (data.samples[start:stop] for start, stop in pairwise(data.offsets))
    facts = {"name": data.name, "fingerprint": fingerprint, "source": f"{data.source} and espeak-ng"}
    write(
        target,
        chain(samples, _voices(utterances, data.sample_rate)),
        [*own, *more],
        facts,
        sample_rate=data.sample_rate,
    )
    return load(target)


def said_again(data: Utterances, count: int, seed: int) -> list[Utterance]:
    """What synthetic voices say: training texts, each chance's own, and a voice for each."""
    rng = np.random.default_rng([seed, 3])  # 0 to 2 are drawn from in `synthesis`
    texts = [words for index in data.subset("train") if (words := tuple(normalise(data.texts[index]).split()))]
    voices = [f"{accent}+{timbre}" for accent, timbre in product(ACCENTS, TIMBRES)]
    return [
        Utterance(
            f"{SYNTHETIC}{number:05d}",
            "train",
            texts[int(rng.integers(len(texts)))],
            str(rng.choice(voices)),
            str(rng.choice(list(PITCHES))),
            (seed, 4, number),
        )
        for number in range(count)
    ]


def _voices(utterances: list[Utterance], sample_rate: int) -> Iterator[npt.NDArray[np.int16]]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        heard = progress.track(spoken(utterances), total=len(utterances), description="Synthesise")
        for utterance, (clean, rate) in zip(utterances, heard, strict=True):
            samples = recorded(clean, rate, np.random.default_rng([*utterance.seed, 2]))
            waveform = soxr.resample(samples.astype(np.float32) / _FULL_SCALE, rate, sample_rate)
            yield quantise(waveform)
