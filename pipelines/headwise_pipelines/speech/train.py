"""From recordings to a registered recogniser."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from headwise.errors import InputError
from headwise.tracking.describe import DataFacts
from headwise.tracking.evidence import Evidence
from headwise.tracking.figures import attention_map, carried_words
from headwise.training.checkpoints import restore
from headwise.training.fit import Fitted, fit
from headwise.training.watching import Watch
from headwise.transformer import rollout
from headwise_pipelines.launch import Launched, Order, Outcome, curves, launch, say
from headwise_pipelines.mechanisms import added, biases, kernels
from headwise_pipelines.speech.decoder import Decoder
from headwise_pipelines.speech.export import export
from headwise_pipelines.speech.matching import rows
from headwise_pipelines.speech.presets import SpeechConfig
from headwise_pipelines.speech.report import commonest_text, listen
from headwise_speech.alignment import word_frames
from headwise_speech.batches import SpeechBatches
from headwise_speech.frontend import HOP, SAMPLE_RATE
from headwise_speech.model import Recogniser, recogniser
from headwise_speech.subsampling import REDUCTION
from headwise_speech.task import MONITOR, RecogniserTask
from headwise_speech.task import attention_map as attention_of
from headwise_speech.text import SPACE, Vocabulary, normalise
from headwise_speech.utterances import META, SYNTHETIC, Utterances, load

MODE: Final = "min"
FRAME = REDUCTION * HOP / SAMPLE_RATE  # seconds of a frame of the encoder
DRAWN = 6.0  # seconds of an utterance on a figure
CALIBRATED = 300  # training utterances that the front end's constants are measured on


def train(order: Order, config: SpeechConfig) -> Outcome:
    """One run of the recogniser, from recordings to a registered model."""
    data = _read(order, config)
    vocabulary, decoder = _words(config, data)
    with launch(order, facts(data)) as launched:
        task, fitted = _fit(launched, config, data, vocabulary)
        model = task.model
        restore(task, fitted.best)
        model.cpu().eval()
        launched.run.figure("learning curves", curves(fitted, [MONITOR, "valid/loss"], order.preset))
        _draw_attention(launched, model, data, decoder)
        say("test: what the model hears")
        heard = listen(model, decoder.transcriber(model), vocabulary, data, "test")
        pairs = zip(heard.indices.tolist(), heard.references, heard.hypotheses, strict=True)
        launched.run.text("transcripts.tsv", "".join(f"{data.ids[i]}\t{said}\t{got}\n" for i, said, got in pairs))
        say(f"word error rate {heard.words}")
        card = launched.exported or export(
            model, data, decoder, launched.model, launched.card("recogniser", decoder.card(), heard.metrics())
        )
        beside = {"commonest text": commonest_text(data).metrics()}
        waveform = data.waveform(int(data.subset("valid")[0]))[None]
        example = {"waveform": waveform, "lengths": torch.tensor([waveform.shape[1]]).numpy()}
        evidence = Evidence("wer", "word errors of each utterance", heard.word_errors)
        return launched.finish(fitted, card, example, baselines=beside, evidence=evidence, mode=MODE)


def trial(order: Order, config: SpeechConfig, watch: Watch) -> Fitted:
    """One trial of a sweep: trained and validated, no more. The test part is not read, nothing is exported or registered."""
    data = _read(order, config)
    vocabulary, _ = _words(config, data)
    with launch(order, facts(data)) as launched:
        return _fit(launched, config, data, vocabulary, watch)[1]


def data_of(order: Order, config: SpeechConfig) -> DataFacts:
    """The data that a run of this configuration is trained on, as a tracker describes it."""
    return facts(_read(order, config))


def prepared(data: Path, folder: Path) -> Utterances:
    """Prepared speech: the folder itself where it is one, else what its recordings become in a folder of their own."""
    if (data / META).is_file():
        return load(data)
    # It reads recordings, which a machine that only trains need not be able to.
    from headwise_speech.prepare import prepare

    return prepare(data, folder)


def build(config: SpeechConfig, data: Utterances, vocabulary: Vocabulary) -> Recogniser:
    """The model of a configuration, with new weights and a front end calibrated on the training set."""
    model = config.model
    built = recogniser(
        len(vocabulary),
        width=model.width,
        blocks=model.blocks,
        heads=model.heads,
        span=model.span,
        channels=model.channels,
        dropout=model.dropout,
        chunk=model.chunk,
        left=model.left,
        decoder_blocks=model.decoder_blocks,
        kernel=kernels(model.kernel, model.width // model.heads, reach=model.reach, ahead=model.reach),
        positions=added(model.positions, model.width, 0),
        rotary=model.positions == "rotary",
        bias=biases(model.positions, model.heads, 64),
    )
    some = data.subset("train")[:: max(1, len(data.subset("train")) // CALIBRATED)]
    built.front_end.calibrate(torch.from_numpy(data.waveform(int(index))) for index in some)
    return built


def facts(data: Utterances) -> DataFacts:
    """The data as a tracker describes it."""
    schema = {"audio": "binary", "text": "string", "speaker": "string"}
    profile = {"utterances": len(data), "minutes": round(data.seconds / 60, 2), "speakers": len(set(data.speakers))}
    return DataFacts(data.name, data.fingerprint, data.source, schema, profile)


def _read(order: Order, config: SpeechConfig) -> Utterances:
    data = prepared(order.data, order.work / "data")
    if config.synthetic:
        # It speaks, which a machine that only trains need not be able to.
        from headwise_speech.synthetic import with_synthetic

        data = with_synthetic(data, order.work / "data", share=config.synthetic, seed=config.fit.seed)
    counts = {split: len(data.subset(split)) for split in ("train", "valid", "test")}
    if not all(counts.values()):
        raise InputError(f"{order.data}: {counts} utterances; a run needs all three parts, name them in the manifests")
    say(
        f"{data.name}: {data.seconds / 60:.1f} min, " + ", ".join(f"{count} {split}" for split, count in counts.items())
    )
    return data


def _words(config: SpeechConfig, data: Utterances) -> tuple[Vocabulary, Decoder]:
    texts = [data.texts[index] for index in data.subset("train") if not data.ids[index].startswith(SYNTHETIC)]
    vocabulary = _vocabulary(config, texts)
    parts = set().union(*(text.split() if config.unit == "words" else text for text in map(normalise, data.texts)))
    if unheard := sorted(part for part in parts - {SPACE} if not vocabulary.writable(part)):
        say(f"in no training text, and so always heard wrong: {' '.join(unheard)}")
    return vocabulary, Decoder(config.decoder, vocabulary, texts)


def _vocabulary(config: SpeechConfig, texts: Sequence[str]) -> Vocabulary:
    if config.unit == "words":
        return Vocabulary.of_words(texts)
    return Vocabulary.of_pieces(texts, config.pieces) if config.unit == "pieces" else Vocabulary.of(texts)


def _fit(
    launched: Launched, config: SpeechConfig, data: Utterances, vocabulary: Vocabulary, watch: Watch | None = None
) -> tuple[RecogniserTask, Fitted]:
    torch.manual_seed(config.fit.seed)
    model = build(config, data, vocabulary)
    launched.begin(model, lambda start: rows(start, vocabulary))
    task = RecogniserTask(model, vocabulary, config.optimizer, config.augment, config.loss)
    fitted = fit(
        task,
        SpeechBatches(data, vocabulary, seconds=config.seconds, surroundings=config.surroundings, seed=config.fit.seed),
        settings=config.fit,
        folder=launched.folder.path,
        monitor=MONITOR,
        mode=MODE,
        tracker=launched.run,
        watch=watch,
    )
    return task, fitted


def _draw_attention(launched: Launched, model: Recogniser, data: Utterances, decoder: Decoder) -> None:
    index = _telling(data)
    waveform, name = torch.from_numpy(data.waveform(index)), data.ids[index]
    weights = attention_of(model, waveform)
    heads = weights[-1].numpy()
    title = f"last block, {name}: {data.texts[index]} (frames of 40 ms)"
    launched.run.figure("attention", attention_map(heads, title=title))
    lengths = torch.tensor([len(waveform)])
    with torch.inference_mode():
        spectrogram, frames = model.front_end(waveform[None], lengths)
        log_probs = model.log_probs(spectrogram, frames)[0][0].numpy()
        shares = rollout(list(weights[:, None]))[0].numpy()
    heard = decoder.build()(log_probs).text
    words = word_frames(log_probs, heard, decoder.vocabulary)
    attention = np.array([shares[word.first : word.end].mean(0) for word in words])
    figure = carried_words(
        spectrogram[0].numpy(),
        [(word.word, word.first * FRAME, word.end * FRAME) for word in words],
        attention,
        spectrogram_hop=HOP / SAMPLE_RATE,
        hop=FRAME,
        title=f"{name}: which frames carried each word",
    )
    launched.run.figure("explanation", figure)


def _telling(data: Utterances) -> int:
    """The validation utterance of the most letters that a figure is wide enough for, the shortest where there is none."""
    some: list[int] = sorted(data.subset("valid").tolist(), key=lambda index: float(data.durations[index]))
    fitting = [index for index in some if data.durations[index] <= DRAWN]
    return max(fitting or some[:1], key=lambda index: len("".join(data.texts[index].split())))
