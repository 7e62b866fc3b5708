"""Prepared speech: every utterance of a corpus in one memory-mapped file of samples. Needs numpy alone.

audio.npy          int16 [samples], 16 kHz mono, utterances one after another
offsets.npy        int64 [utterances + 1]: utterance i is samples offsets[i] : offsets[i + 1]
utterances.json    a list of {"id", "text", "speaker", "split"}
meta.json          {"name", "fingerprint", "sample_rate", "seconds", "source"}
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from headwise.errors import InputError, NotFound
from headwise.files import replacing

_FULL_SCALE = 32_768  # int16 counts for 1.0
_LITTLE_ENDIAN = "<i2"
META = "meta.json"
SYNTHETIC = "synthetic-"  # what the ids of utterances begin with that nobody said
_FIELDS = ("id", "text", "speaker", "split")


@dataclass(frozen=True)
class Utterances:
    """A prepared corpus. Texts are as the source wrote them; `text.normalise` gives the form that models are trained on."""

    samples: npt.NDArray[np.int16]  # [samples]
    offsets: npt.NDArray[np.int64]  # [utterances + 1]
    ids: list[str]
    texts: list[str]
    speakers: list[str]  # "" where unknown
    splits: list[str]  # "train", "valid" or "test"
    sample_rate: int  # Hz
    name: str
    fingerprint: str  # SHA-256 of texts, splits and audio files
    source: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def durations(self) -> npt.NDArray[np.float64]:
        """Seconds of each utterance [utterances]."""
        return np.diff(self.offsets) / self.sample_rate

    @property
    def seconds(self) -> float:
        """Seconds of all utterances together."""
        return float(self.offsets[-1] / self.sample_rate)

    def waveform(self, index: int) -> npt.NDArray[np.float32]:
        """Samples of one utterance [samples], within -1..1."""
        return self.samples[self.offsets[index] : self.offsets[index + 1]].astype(np.float32) / np.float32(_FULL_SCALE)

    def subset(self, split: str) -> npt.NDArray[np.int64]:
        """Indices of the utterances of one split, in order."""
        return np.flatnonzero(np.array(self.splits, dtype=object) == split).astype(np.int64)


def quantise(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """The nearest int16 samples; what came from 16-bit audio comes back bit for bit."""
    return np.rint(waveform * _FULL_SCALE).clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def save(data: Utterances, folder: Path) -> None:
    """Writes a prepared corpus, whole or not at all."""
    audio = (data.samples[start:stop] for start, stop in pairwise(data.offsets))
    columns = zip(data.ids, data.texts, data.speakers, data.splits, strict=True)
    write(
        folder,
        audio,
        [dict(zip(_FIELDS, row, strict=True)) for row in columns],
        {"name": data.name, "fingerprint": data.fingerprint, "source": data.source},
        sample_rate=data.sample_rate,
    )


def write(
    folder: Path,
    audio: Iterable[npt.NDArray[np.int16]],
    rows: Sequence[Mapping[str, str]],
    facts: Mapping[str, str],
    *,
    sample_rate: int,
) -> None:
    """Writes a corpus from a stream of utterances, so that its audio is never in memory together; whole or not at all.

    Args:
        folder: what to write; replaced if it holds a prepared corpus already.
        audio: the samples of each utterance.
        rows: id, text, speaker and split of each utterance.
        facts: name, fingerprint and source of the corpus.
        sample_rate: Hz.

    Raises:
        InputError: `folder` holds something else.
    """
    if folder.exists() and not (folder / META).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise InputError(f"{folder}: holds something that is not prepared speech; choose another folder to write to")
    with replacing(folder) as draft:
        draft.mkdir()
        offsets = _stream(draft / "audio.npy", audio)
        np.save(draft / "offsets.npy", offsets)
        _write_json(draft / "utterances.json", rows)
        seconds = float(offsets[-1] / sample_rate)
        _write_json(draft / META, {**facts, "sample_rate": sample_rate, "seconds": seconds})


def load(folder: Path) -> Utterances:
    """A prepared corpus, its audio mapped from disk and not read.

    Raises:
        NotFound: `folder` holds no prepared speech.
        InputError: a file of it is missing, damaged or of another length than the others.
    """
    if not (folder / META).is_file():
        raise NotFound(f"{folder}: holds no prepared speech (no {META}); prepare the data first")
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        rows = json.loads((folder / "utterances.json").read_text(encoding="utf-8"))
        data = Utterances(
            samples=np.load(folder / "audio.npy", mmap_mode="r"),
            offsets=np.load(folder / "offsets.npy"),
            ids=[row["id"] for row in rows],
            texts=[row["text"] for row in rows],
            speakers=[row["speaker"] for row in rows],
            splits=[row["split"] for row in rows],
            sample_rate=meta["sample_rate"],
            name=meta["name"],
            fingerprint=meta["fingerprint"],
            source=meta["source"],
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: damaged prepared speech ({error!r}); prepare the data again") from error
    if len(data.offsets) != len(data) + 1 or data.offsets[-1] != len(data.samples):
        raise InputError(
            f"{folder}: {len(data)} utterances, {len(data.offsets)} offsets up to {data.offsets[-1:]} and "
            f"{len(data.samples)} samples do not belong together; prepare the data again"
        )
    return data


def _stream(path: Path, audio: Iterable[npt.NDArray[np.int16]]) -> npt.NDArray[np.int64]:
    lengths = [0]
    with path.open("wb") as file:
        _write_header(file, 0)
        for samples in audio:
            file.write(np.ascontiguousarray(samples, dtype=_LITTLE_ENDIAN).data)
            lengths.append(len(samples))
        file.seek(0)
        _write_header(file, sum(lengths))
    return np.cumsum(lengths, dtype=np.int64)


def _write_header(file: BinaryIO, samples: int) -> None:
    # NumPy pads headers so that the first axis may grow: any count takes the same bytes, and the last one is written last.
    header = {"descr": _LITTLE_ENDIAN, "fortran_order": False, "shape": (samples,)}
    np.lib.format.write_array_header_1_0(file, header)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
