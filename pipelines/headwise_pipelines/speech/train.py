"""From recordings to a registered recogniser."""

from pathlib import Path

import torch

from headwise.errors import InputError
from headwise.tracking.describe import DataFacts
from headwise.tracking.figures import attention_map
from headwise.training.checkpoints import restore
from headwise.training.fit import fit
from headwise_pipelines.launch import Launched, Order, Outcome, curves, launch, say
from headwise_pipelines.speech.decoder import Decoder
from headwise_pipelines.speech.export import export
from headwise_pipelines.speech.matching import rows
from headwise_pipelines.speech.presets import SpeechConfig
from headwise_pipelines.speech.report import commonest_text, listen
from headwise_speech.batches import SpeechBatches
from headwise_speech.model import Recogniser, recogniser
from headwise_speech.task import MONITOR, RecogniserTask
from headwise_speech.task import attention_map as attention_of
from headwise_speech.text import Vocabulary, normalise
from headwise_speech.utterances import META, Utterances, load

CALIBRATED = 300  # training utterances that the front end's constants are measured on


def train(order: Order, config: SpeechConfig) -> Outcome:
    """One run of the recogniser, from recordings to a registered model."""
    data = prepared(order.data, order.work / "data")
    counts = {split: len(data.subset(split)) for split in ("train", "valid", "test")}
    if not all(counts.values()):
        raise InputError(f"{order.data}: {counts} utterances; a run needs all three parts, name them in the manifests")
    say(
        f"{data.name}: {data.seconds / 60:.1f} min, " + ", ".join(f"{count} {split}" for split, count in counts.items())
    )
    texts = [data.texts[index] for index in data.subset("train")]
    vocabulary = Vocabulary.of(texts)
    if unheard := sorted(set().union(*map(normalise, data.texts)) - set(vocabulary.tokens)):
        say(f"in no training text, and so always heard wrong: {' '.join(unheard)}")
    decoder = Decoder(config.decoder, vocabulary, texts)
    with launch(order, facts(data)) as launched:
        torch.manual_seed(config.fit.seed)
        model = build(config, data, vocabulary)
        launched.begin(model, lambda start: rows(start, vocabulary))
        task = RecogniserTask(model, vocabulary, config.optimizer, config.augment)
        fitted = fit(
            task,
            SpeechBatches(data, vocabulary, seconds=config.seconds, seed=config.fit.seed),
            settings=config.fit,
            folder=launched.folder.path,
            monitor=MONITOR,
            mode="min",
            tracker=launched.run,
        )
        restore(task, fitted.best)
        model.cpu().eval()
        launched.run.figure("learning curves", curves(fitted, [MONITOR, "valid/loss"], order.preset))
        _draw_attention(launched, model, data)
        say("test: what the model hears")
        heard = listen(model, decoder.build(), vocabulary, data, "test")
        pairs = zip(heard.indices.tolist(), heard.references, heard.hypotheses, strict=True)
        launched.run.text("transcripts.tsv", "".join(f"{data.ids[i]}\t{said}\t{got}\n" for i, said, got in pairs))
        say(f"word error rate {heard.words}")
        card = launched.exported or export(
            model, data, decoder, launched.model, launched.card("recogniser", decoder.card(), heard.metrics())
        )
        beside = {"commonest text": commonest_text(data).metrics()}
        waveform = data.waveform(int(data.subset("valid")[0]))[None]
        example = {"waveform": waveform, "lengths": torch.tensor([waveform.shape[1]]).numpy()}
        return launched.finish(fitted, card, example, baselines=beside, metric="wer", mode="min")


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
        kernel=model.kernel,
        channels=model.channels,
        dropout=model.dropout,
    )
    some = data.subset("train")[:: max(1, len(data.subset("train")) // CALIBRATED)]
    built.front_end.calibrate(torch.from_numpy(data.waveform(int(index))) for index in some)
    return built


def facts(data: Utterances) -> DataFacts:
    """The data as a tracker describes it."""
    schema = {"audio": "binary", "text": "string", "speaker": "string"}
    profile = {"utterances": len(data), "minutes": round(data.seconds / 60, 2), "speakers": len(set(data.speakers))}
    return DataFacts(data.name, data.fingerprint, data.source, schema, profile)


def _draw_attention(launched: Launched, model: Recogniser, data: Utterances) -> None:
    index = int(data.subset("valid")[0])
    with torch.inference_mode():
        weights = attention_of(model, torch.from_numpy(data.waveform(index)))[-1]
    heads = weights.reshape(-1, *weights.shape[-2:]).numpy()
    title = f"last block, {data.ids[index]}: {data.texts[index]} (frames of 40 ms)"
    launched.run.figure("attention", attention_map(heads, title=title))
