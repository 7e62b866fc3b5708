"""Spoken digits and letters, synthesised: a small corpus for trying the recogniser where no recordings are at hand.

One to five words an utterance ("THREE SEVEN A"), by voices that differ in accent, timbre, pitch and rate, through a mildly
random channel, in noise. Voices of the validation and test parts are not heard in training. espeak-ng speaks, in a process of
its own (see `espeak_process`).
"""

import json
import string
import subprocess
import sys
import wave
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from headwise.errors import HeadwiseError, InputError
from headwise.files import replacing

DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
LETTERS = tuple(string.ascii_uppercase)
ACCENTS = ("en-us", "en-us-nyc", "en", "en-gb-x-rp", "en-gb-scotland", "en-029")  # "en" is British, "en-029" Caribbean
TIMBRES = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5")
PITCHES = {"low": 35, "middle": 50, "high": 65}  # of espeak-ng's 0-99, around each timbre's own pitch
HELD_OUT = (8, 12)  # voices, of the 78, that are heard in the validation and test parts alone

_MARK = "synthesis.json"
_PROGRAM = Path(__file__).with_name("espeak_process.py")
_FULL_SCALE = 32767

_Waveform = npt.NDArray[np.float64]
_Random = np.random.Generator


@dataclass(frozen=True)
class Utterance:
    """What is to be said, by whom; all that is random about how comes from its seed."""

    id: str
    split: str  # "train", "valid" or "test"
    words: tuple[str, ...]
    voice: str  # accent and timbre, such as "en-us+f2"
    pitch: str  # a key of PITCHES
    seed: tuple[int, ...]

    @property
    def text(self) -> str:
        """The transcript."""
        return " ".join(self.words)

    @property
    def speaker(self) -> str:
        """The speaker's name: voice and pitch."""
        return f"{self.voice}-{self.pitch}"


def generate(folder: Path, *, train: int = 900, valid: int = 100, test: int = 150, seed: int = 0) -> None:
    """Write a corpus: `audio/*.wav` (16 bit, espeak-ng's 22,050 Hz) and `train.jsonl`, `valid.jsonl`, `test.jsonl`.

    A manifest's line has id, audio (a path from the manifest's folder), text, speaker and duration in seconds. The same
    arguments give the same bytes. The folder appears whole or not at all.

    Args:
        folder: what to write; replaced if it holds a generated corpus already.
        train: utterances of the training part.
        valid: utterances of the validation part.
        test: utterances of the test part.
        seed: other seeds give other utterances, speakers and noises.

    Raises:
        InputError: espeak-ng is not installed, or `folder` holds something else.
    """
    _check_installed()
    if folder.exists() and not (folder / _MARK).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise InputError(f"{folder}: holds something that is not generated speech; choose another folder to write to")
    sizes = {"train": train, "valid": valid, "test": test}
    utterances = plan(sizes, seed)
    console = Console(stderr=True)
    with (
        replacing(folder) as draft,
        closing(spoken(utterances)) as voices,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        (draft / "audio").mkdir(parents=True)
        heard = progress.track(voices, total=len(utterances), description="Synthesise")
        lines = [_write_recording(draft, utterance, *clean) for utterance, clean in zip(utterances, heard, strict=True)]
        for split in sizes:
            part = [line for line, utterance in zip(lines, utterances, strict=True) if utterance.split == split]
            (draft / f"{split}.jsonl").write_text("".join(part), encoding="utf-8")
        (draft / _MARK).write_text(json.dumps(sizes | {"seed": seed, "engine": "espeak-ng"}) + "\n", encoding="utf-8")


def plan(sizes: Mapping[str, int], seed: int) -> list[Utterance]:
    """What is said in each part and who says it; no voice is in two parts."""
    names = [f"{accent}+{timbre}" for accent, timbre in product(ACCENTS, TIMBRES)]
    voices = np.random.default_rng([seed, 0]).permutation(names)
    parts = dict(zip(("valid", "test", "train"), np.split(voices, np.cumsum(HELD_OUT)), strict=True))
    return [
        _planned(f"{split}-{number:04d}", split, parts[split], (seed, order, number))
        for order, (split, size) in enumerate(sizes.items(), 1)
        for number in range(size)
    ]


def spoken(utterances: Iterable[Utterance]) -> Generator[tuple[npt.NDArray[np.int16], int], None, None]:
    """The clean samples of each utterance and their rate in Hz, from one espeak-ng process.

    Raises:
        InputError: espeak-ng is not installed.
        HeadwiseError: it failed.
    """
    _check_installed()
    # -P: the program's folder, this package, is not put where it would look for the standard library's modules.
    command = [sys.executable, "-P", str(_PROGRAM)]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            for utterance in utterances:
                yield _ask(process, _request(utterance, np.random.default_rng([*utterance.seed, 1])))
    except BrokenPipeError as error:
        raise HeadwiseError("espeak-ng: its process ended; what it said last is above") from error


def recorded(samples: npt.NDArray[np.int16], rate: int, rng: _Random) -> npt.NDArray[np.int16]:
    """Clean speech as if recorded: silence around it, a tilted spectrum, noise 15 to 40 dB below, a level below full scale."""
    around = rng.integers(rate // 20, rate // 4, size=2)  # 50 to 250 ms
    tilt = rng.uniform(-0.4, 0.4)
    clean = samples / _FULL_SCALE
    speech = clean - tilt * np.concatenate([[0.0], clean[:-1]])
    loudness = np.sqrt(np.mean(speech**2))
    noise = _noise(len(speech) + around.sum(), rate, rng)
    noise *= loudness * 10 ** (-rng.uniform(15, 40) / 20) / np.sqrt(np.mean(noise**2))
    mixed = np.pad(speech, tuple(around)) + noise
    peak = 10 ** (-rng.uniform(2, 15) / 20)  # of full scale
    scaled: npt.NDArray[np.int16] = np.rint(mixed * (peak * _FULL_SCALE / np.abs(mixed).max())).astype(np.int16)
    return scaled


def _planned(name: str, split: str, voices: npt.NDArray[np.str_], seed: tuple[int, ...]) -> Utterance:
    rng = np.random.default_rng([*seed, 0])
    words = tuple(str(rng.choice(DIGITS if rng.random() < 0.6 else LETTERS)) for _ in range(rng.integers(1, 6)))
    return Utterance(name, split, words, str(rng.choice(voices)), str(rng.choice(list(PITCHES))), seed)


def _request(utterance: Utterance, rng: _Random) -> dict[str, object]:
    # Told to spell it, espeak-ng says the letter "A"; within a sentence it would say the article.
    spelt = '<say-as interpret-as="characters">{}</say-as>'
    words = [spelt.format(word) if len(word) == 1 else escape(word.lower()) for word in utterance.words]
    return {
        "text": str(rng.choice([" ", ", "])).join(words),
        "voice": utterance.voice,
        "pitch": PITCHES[utterance.pitch] + int(rng.integers(-5, 6)),
        "rate": int(rng.integers(130, 211)),
        "gap": int(rng.integers(0, 8)),
        "seed": int(rng.integers(1 << 31)),
    }


def _ask(process: "subprocess.Popen[bytes]", request: dict[str, object]) -> tuple[npt.NDArray[np.int16], int]:
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise BrokenPipeError
    answer = json.loads(line)
    if "error" in answer:
        raise HeadwiseError(f"espeak-ng: {answer['error']}, asked for {request}")
    return np.frombuffer(process.stdout.read(2 * answer["samples"]), np.int16), answer["sample_rate"]


def _noise(length: int, rate: int, rng: _Random) -> _Waveform:
    kind = rng.choice(["white", "pink", "hum"])
    white = rng.standard_normal(-(-length // 4096) * 4096)  # a length that the Fourier transform is fast at
    if kind == "white":
        return white[:length]
    if kind == "pink":  # power falls as 1 / frequency, from 20 Hz on
        hertz = np.fft.rfftfreq(len(white), 1 / rate)
        return np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.maximum(hertz, 20)))[:length]
    harmonics = np.arange(1, 8)[:, None] * rng.choice([50, 60])  # Hz, of the mains
    phases = rng.uniform(0, 2 * np.pi, (7, 1))
    hum = (np.sin(2 * np.pi * harmonics * np.arange(length) / rate + phases) / harmonics).sum(axis=0)
    return np.asarray(hum + white[:length] / 1000)


def _write_recording(folder: Path, utterance: Utterance, clean: npt.NDArray[np.int16], rate: int) -> str:
    samples = recorded(clean, rate, np.random.default_rng([*utterance.seed, 2]))
    audio = f"audio/{utterance.id}.wav"
    with wave.open(str(folder / audio), "wb") as file:
        file.setparams((1, 2, rate, len(samples), "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    line = {"id": utterance.id, "audio": audio, "text": utterance.text, "speaker": utterance.speaker}
    return json.dumps(line | {"duration": round(len(samples) / rate, 3)}) + "\n"


def _check_installed() -> None:
    if find_spec("espeakng_loader") is None:
        raise InputError("speech synthesis needs espeak-ng, which is not installed; run: pip install 'headwise[synth]'")
