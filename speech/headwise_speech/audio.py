"""Audio files to waveforms: float32, mono, 16 kHz. Preparation and the server both come through here and hear the same.

Reads what libsndfile reads (WAV, FLAC, OGG and more) without torch; soxr resamples.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from headwise.errors import InputError, NotFound

SAMPLE_RATE = 16_000  # Hz

_SLOWEST = 1_000  # Hz; a header that claims less would be blown up to gigabytes by resampling
_LOUDEST = 4.0  # 12 dB over full scale; beyond it floats are counts of some integer scale, not a waveform
_BLOCK = 1 << 16  # frames read at a time, so that many channels never stand in memory together
_UNKNOWN = 1 << 62  # frames; libsndfile says more than this when a stream's header gives no length
_STREAMED = 0x7FFF0000  # bytes; programs that write WAV into a pipe announce about this much, or twice it


def duration(source: Path | bytes, *, name: str | None = None) -> float:
    """Seconds of audio that the header announces, without decoding.

    Args:
        source: a file's path, or its bytes.
        name: what messages call it; the path by default.

    Raises:
        NotFound: there is no such file.
        InputError: it is not audio, or a stream that does not say how long it is.
    """
    with _opened(source, name) as (file, _):
        return float(file.frames / file.samplerate)


def decode(
    source: Path | bytes, *, name: str | None = None, max_seconds: float | None = None
) -> npt.NDArray[np.float32]:
    """The waveform [samples] of a recording of any sample rate and channel count: mono, 16 kHz, within -1..1.

    Channels are averaged. What is longer than `max_seconds` is refused by its header, before any of it is decoded.

    Args:
        source: a file's path, or its bytes.
        name: what messages call it; the path by default.
        max_seconds: the longest recording to accept.

    Raises:
        NotFound: there is no such file.
        InputError: it is not audio, is truncated or damaged, holds no samples or samples that are not finite,
            or is too long.
    """
    with _opened(source, name) as (file, label):
        rate = file.samplerate
        if rate < _SLOWEST:
            raise InputError(f"{label}: sample rate {rate} Hz, at least {_SLOWEST} Hz is needed; check its header")
        waveform = _mono(file, label, max_seconds)
    _check_samples(waveform, label)
    if rate != SAMPLE_RATE:
        waveform = soxr.resample(waveform, rate, SAMPLE_RATE)
    if not len(waveform):
        raise InputError(f"{label}: holds 0 samples at {SAMPLE_RATE} Hz; leave it out or record it again")
    return np.clip(waveform, -1.0, 1.0, out=waveform)


def from_pcm(samples: bytes, rate: int) -> bytes:
    """A WAV file of raw samples without a header: mono, 16-bit, little-endian, as a microphone's program pipes them.

    Args:
        samples: the bytes; half a sample at their end is left out.
        rate: samples a second.
    """
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(samples[: len(samples) // 2 * 2], "<i2"), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


@contextmanager
def _opened(source: Path | bytes, name: str | None) -> Iterator[tuple[soundfile.SoundFile, str]]:
    label = name or (str(source) if isinstance(source, Path) else "the audio")
    if isinstance(source, Path) and not source.is_file():
        raise NotFound(f"{label}: no such file")
    try:
        file = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: *.raw, which has no header
        raise InputError(
            f"{label}: not audio that can be read ({_reason(error)}); convert it to WAV or FLAC"
        ) from error
    with file:
        if file.frames > _UNKNOWN:
            raise InputError(
                f"{label}: its header gives no length, as when written into a pipe; write it to a file again"
            )
        yield file, label


def _mono(file: soundfile.SoundFile, label: str, max_seconds: float | None) -> npt.NDArray[np.float32]:
    seconds = file.frames / file.samplerate
    if max_seconds is not None and seconds > max_seconds:
        raise InputError(f"{label}: lasts {seconds:.1f} s, at most {max_seconds:g} s is accepted; cut it into pieces")
    blocks = []
    try:
        while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
            blocks.append(block[:, 0] if file.channels == 1 else block.mean(axis=1, dtype=np.float32))
    except soundfile.LibsndfileError as error:
        raise InputError(f"{label}: truncated or damaged ({_reason(error)}); fetch or record it again") from error
    _check_whole(file, sum(map(len, blocks)), label)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _check_whole(file: soundfile.SoundFile, frames: int, label: str) -> None:
    if file.format == "MP3":  # its header's count is an estimate
        return
    if frames < file.frames:
        raise InputError(f"{label}: truncated, {frames} of {file.frames} samples are there; fetch or record it again")
    # Of a cut WAV libsndfile shortens the count to what is there, and tells of it in its log alone.
    cut = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if cut and int(cut[2]) < int(cut[1]) < _STREAMED:
        raise InputError(f"{label}: truncated, {cut[2]} of {cut[1]} bytes are there; fetch or record it again")


def _check_samples(waveform: npt.NDArray[np.float32], label: str) -> None:
    if not len(waveform):
        raise InputError(f"{label}: holds 0 samples; leave it out or record it again")
    strange = np.flatnonzero(~np.isfinite(waveform))
    if len(strange):
        raise InputError(
            f"{label}: sample {strange[0]} is {waveform[strange[0]]}, and {len(strange) - 1} more are not finite; "
            "write the file again"
        )
    peak = float(np.abs(waveform).max())
    if peak > _LOUDEST:
        raise InputError(
            f"{label}: samples reach {peak:g}, floats must lie within -1..1; scale them and write it again"
        )


def _reason(error: Exception) -> str:
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return str(text).removeprefix("Error :").strip(" .")
