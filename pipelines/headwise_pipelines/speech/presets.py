"""What a recogniser run is made of, and the runs that we know to be good. A new run is a new function here."""

from dataclasses import dataclass, field
from typing import Literal

from headwise.errors import InputError
from headwise.training.optimization import OptimizerSettings
from headwise.training.settings import FitSettings
from headwise_pipelines.bounds import at_least, compatible, divisible_heads, share
from headwise_speech.augmentation import SpecAugment
from headwise_speech.losses import LossSettings
from headwise_speech.surroundings import Surroundings


@dataclass(frozen=True)
class RecogniserSettings:
    """The size and shape of the model.

    Attributes:
        width: of the blocks.
        blocks: how many.
        heads: of each block's attention.
        kernel: what attention computes; `window` looks `reach` tokens to either side, `hierarchical` makes groups of them.
        reach: tokens of 40 ms of a window's side or of a group.
        positions: how a token knows its place.
        span: tokens of 40 ms that a block's convolution covers.
        channels: of the two convolutions that turn 10 ms frames into 40 ms tokens.
        dropout: before the blocks and on the answer of every branch.
        chunk: tokens of 40 ms that it hears at a time where it streams, 12 being 480 ms; 0 for one that does not.
        left: tokens before a chunk that it still looks at then.
        decoder_blocks: of the attention decoder, which judges what the search by CTC found; 0 for none.
    """

    width: int = 144
    blocks: int = 4
    heads: int = 4
    kernel: Literal["softmax", "additive", "window", "linear", "hierarchical"] = "softmax"
    reach: int = 16
    positions: Literal["sinusoidal", "rotary", "relative", "alibi"] = "rotary"
    span: int = 15
    channels: int = 32
    dropout: float = 0.1
    chunk: int = 0
    left: int = 48
    decoder_blocks: int = 0

    def __post_init__(self) -> None:
        at_least(
            "model", self, width=1, blocks=1, heads=1, reach=1, span=1, channels=1, chunk=0, left=0, decoder_blocks=0
        )
        divisible_heads("model", self)
        compatible("model", self)
        share("model", self, "dropout")
        if self.chunk and self.kernel in ("linear", "hierarchical"):
            raise InputError(
                f"model.kernel ({self.kernel}) cannot hear in chunks: use softmax, additive or window, or model.chunk 0"
            )


@dataclass(frozen=True)
class DecoderSettings:
    """How log-probabilities become text.

    Attributes:
        kind: greedy takes the likeliest token of every frame; lexicon searches for the words of the training texts, open for any.
        width: beginnings of texts that survive a frame of a search.
        order: of the n-gram language model of the training texts; 0 for none.
        unit: what the language model is of, words or the vocabulary's tokens.
        weight: of the language model.
        bonus: added for every word.
        voice: whether text is kept only where somebody speaks, so that noises give none.
        attention: share of the attention decoder's log-probability in the rank of a search's best texts, where a model has one.
    """

    kind: Literal["greedy", "lexicon", "open"] = "greedy"
    width: int = 32
    order: int = 3
    unit: Literal["word", "token"] = "word"
    weight: float = 0.5
    bonus: float = 0.0
    voice: bool = True
    attention: float = 0.15

    def __post_init__(self) -> None:
        at_least("decoder", self, width=1, order=0)
        share("decoder", self, "attention")


@dataclass(frozen=True)
class SpeechConfig:
    """Everything that decides what a recogniser run computes, but for the data.

    Attributes:
        seconds: of audio in a training batch, about.
        synthetic: share of the training utterances that synthetic voices say, repeating training texts; needs the extra synth.
        unit: what the model writes with: characters, pieces of words by byte-pair encoding, or whole words.
        pieces: at most so many tokens, where they are pieces.
        model: size and shape of the model.
        augment: what is hidden from the spectrograms of training.
        surroundings: where training utterances seem to be spoken.
        loss: what is learnt beside CTC.
        decoder: how the model's answer is read.
        optimizer: learning rate and its course.
        fit: epochs, patience, averaging, seed, device.
    """

    seconds: float = 60.0
    synthetic: float = 0.0
    unit: Literal["characters", "pieces", "words"] = "characters"
    pieces: int = 128
    model: RecogniserSettings = field(default_factory=RecogniserSettings)
    augment: SpecAugment = field(default_factory=SpecAugment)
    surroundings: Surroundings = field(default_factory=Surroundings)
    loss: LossSettings = field(default_factory=LossSettings)
    decoder: DecoderSettings = field(default_factory=DecoderSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    fit: FitSettings = field(default_factory=FitSettings)

    def __post_init__(self) -> None:
        at_least("", self, seconds=1, pieces=2)
        share("", self, "synthetic")
        at_least("augment", self.augment, bands=0, band=0, stretches=0, stretch=0)


def an4() -> SpeechConfig:
    """CMU AN4: 42 minutes of spelled names, numbers and dates by 74 speakers.

    headwise train speech an4 --data ../shared/data/an4
    """
    return SpeechConfig(
        seconds=20.0,
        model=RecogniserSettings(dropout=0.15),
        augment=SpecAugment(bands=2, band=20, stretches=3, stretch=25, share=0.1),
        decoder=DecoderSettings(kind="lexicon", order=4, bonus=3.0),
        optimizer=OptimizerSettings(rate=2e-3, warmup=300, decay=0.02),
        fit=FitSettings(epochs=60, patience=0, average=0.998),
    )


def fsdd() -> SpeechConfig:
    """Free Spoken Digit Dataset: 22 minutes of single digits by 6 speakers.

    headwise train speech fsdd --data ../shared/data/fsdd
    """
    return SpeechConfig(
        seconds=20.0,
        augment=SpecAugment(bands=2, band=15, stretches=2, stretch=20),
        decoder=DecoderSettings(kind="lexicon", weight=1.0),
        optimizer=OptimizerSettings(rate=2e-3, warmup=200),
        fit=FitSettings(epochs=20, patience=0, average=0.99),
    )


def yesno() -> SpeechConfig:
    """Sixty Hebrew recordings of yes and no by one speaker.

    headwise train speech yesno --data ../shared/data/yesno
    """
    return SpeechConfig(
        decoder=DecoderSettings(kind="lexicon"),
        optimizer=OptimizerSettings(rate=2e-3, warmup=50),
        fit=FitSettings(epochs=60, patience=0, average=0.9),
    )


def spelled() -> SpeechConfig:
    """The quick start's synthesised digits and letters.

    headwise train speech spelled --data FOLDER
    """
    return SpeechConfig(
        seconds=20.0,
        model=RecogniserSettings(dropout=0.05),
        augment=SpecAugment(bands=1, band=15, stretches=1, stretch=15),
        decoder=DecoderSettings(kind="lexicon", weight=0.3, bonus=2.0, voice=False),  # some of its voices whisper
        optimizer=OptimizerSettings(rate=2e-3, warmup=100),
        fit=FitSettings(epochs=16, patience=0, average=0.98),
    )


PRESETS = {"an4": an4, "fsdd": fsdd, "yesno": yesno, "spelled": spelled}
