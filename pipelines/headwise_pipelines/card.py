"""The model card in words, for the registry's page (Mitchell et al. 2019)."""

from collections.abc import Iterator, Mapping

from headwise.model_folder import ModelCard

USE = {
    "recommender": 'curl localhost:8000/v1/recommendations --json \'{"history": [...], "k": 10}\'',
    "recogniser": "curl localhost:8000/v1/audio/transcriptions --form file=@recording.wav",
}


def describe(card: ModelCard, baselines: Mapping[str, Mapping[str, float]]) -> str:
    """The card as Markdown: what it is, how good, on what data, how it was proved, how to use it."""
    return "\n".join(_lines(card, baselines)) + "\n"


def _lines(card: ModelCard, baselines: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    provenance, data = card.provenance, card.provenance["data"]
    yield f"# {card.kind.capitalize()}: {card.name}"
    yield ""
    yield f"Trained by `headwise train {provenance['product']} {provenance['preset']}`, run `{provenance['run']}`."
    if start := provenance.get("start"):
        still = ", whose blocks were not trained further" if start["frozen"] else ""
        yield f"It started from the weights of run `{start['run']}`, {start['name']}{still}."
    yield ""
    yield "## Test figures"
    yield ""
    if card.settings.get("query_time"):
        yield (
            "Of the class query-time: the model is told when each target was chosen, the others are not. No figure here stands "
            "beside one of a model that knows order alone."
        )
        yield ""
    columns = list(card.metrics)
    yield f"| | {' | '.join(columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    for name, values in {"**this model**": card.metrics, **baselines}.items():
        yield f"| {name} | {' | '.join(_figure(values.get(column)) for column in columns)} |"
    yield ""
    yield "## Data"
    yield ""
    yield f"{data['name']} from `{data['source']}`, fingerprint `{data['fingerprint'][:16]}`."
    for key, value in data["profile"].items():
        yield f"- {key}: {value}"
    yield ""
    yield "## Proof"
    yield ""
    parity = card.parity
    yield (
        f"The ONNX graph was compared with the trained model on {parity['rows']} validation inputs: scores differ by at most "
        f"{parity['max_difference']:.2g} (allowed: {parity['tolerance']:g}), and no answer differs."
    )
    yield ""
    yield "## Use"
    yield ""
    yield "```"
    yield "headwise serve models:/NAME@champion"
    yield USE[card.kind]
    yield "```"
    yield ""
    yield "## Limits"
    yield ""
    yield f"It knows what was in its data, and nothing since. It is served with the settings `{dict(card.settings)}`."


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
