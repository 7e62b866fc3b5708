"""Speaks with espeak-ng, in a process of its own: a JSON line in, a JSON line and 16-bit samples out.

    in    {"text": SSML, "voice": "en-us+f2", "rate": words a minute, "pitch": 0-99, "gap": tens of ms between words,
           "seed": of the breath in some voices}
    out   {"sample_rate": 22050, "samples": n}, a line feed, then n int16 samples in this machine's byte order; or {"error": why}

espeak-ng is under the GPL: only this program loads it, it loads nothing of headwise, and it runs only while data is generated.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import espeakng_loader

# The numbers that follow are of espeak-ng's public header, speak_lib.h.
SYNCHRONOUS = 2  # the samples come to a callback, from within the call
DO_NOT_EXIT = 0x8000
UTF8, SSML = 1, 0x10
RATE, PITCH, WORD_GAP = 1, 3, 7

Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """The library, one utterance at a time."""

    def __init__(self) -> None:
        data = Path(espeakng_loader.get_data_path())
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._heard = bytearray()
        self._callback = Callback(self._hear)  # kept: the library holds a bare pointer
        # The library cuts paths at 160 bytes, and a virtual environment's can be longer; its own folder is short.
        os.chdir(data.parent)
        self.sample_rate = self._library.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(data.name), DO_NOT_EXIT)
        if self.sample_rate <= 0:
            raise RuntimeError(f"espeak-ng cannot use its data in {data}")
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: str, rate: int, pitch: int, gap: int, seed: int) -> bytes:
        """16-bit samples, at `sample_rate`."""
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((RATE, rate), (PITCH, pitch), (WORD_GAP, gap)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))  # the clock otherwise
        self._heard.clear()
        encoded = text.encode() + b"\0"
        status = self._library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded)), 0, 0, 0, UTF8 | SSML, None, None)
        if status:
            raise RuntimeError(f"espeak-ng failed with status {status} on {text!r}")
        return bytes(self._heard)

    def _hear(self, samples: Any, count: int, _events: object) -> int:
        if samples and count > 0:
            self._heard += ctypes.string_at(samples, 2 * count)
        return 0


def main() -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted caller closes the input
    espeak = None
    for line in sys.stdin.buffer:
        samples = b""
        try:
            espeak = espeak or Espeak()
            samples = espeak.speak(**json.loads(line))
            answer: dict[str, object] = {"sample_rate": espeak.sample_rate, "samples": len(samples) // 2}
        except (RuntimeError, OSError) as error:
            answer = {"error": str(error)}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + samples)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
