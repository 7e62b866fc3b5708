"""What a person reads at the end of a run."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from headwise_pipelines.launch import Outcome

SHOWN = {
    "recsys": {"hr_10": "HR@10", "ndcg_10": "NDCG@10", "mrr": "MRR"},
    "speech": {"wer": "WER", "cer": "CER", "sentence_errors": "sentences wrong"},
}
PERCENT = ("wer", "cer", "sentence_errors")


def print_outcome(outcome: Outcome, best: Mapping[str, float] | None = None) -> None:
    """A table of the model beside its baselines, and where to go on.

    Args:
        outcome: what the run came to.
        best: the best figures that any model could reach, where that is known.
    """
    console = Console(highlight=False, soft_wrap=True)
    console.print(figures(outcome, best))
    console.print(
        f"model    {outcome.model}, {'now the champion' if outcome.champion else 'not the champion'}: {outcome.reason}"
    )
    console.print(f"run      {outcome.where}")
    console.print(f"serve    headwise serve {outcome.model}")


def figures(outcome: Outcome, best: Mapping[str, float] | None = None) -> Table:
    """The test figures of the model, its baselines and the best possible, as a table."""
    minutes = f"{outcome.seconds / 60:.1f} min" if outcome.seconds > 90 else f"{outcome.seconds:.0f} s"
    title = f"{outcome.name} ({outcome.preset}): test set, {outcome.epochs} epochs in {minutes}, kept epoch {outcome.chosen}"
    return table_of(outcome.product, title, outcome.metrics, outcome.baselines, best)


def table_of(
    product: str,
    title: str,
    metrics: Mapping[str, float],
    baselines: Mapping[str, Mapping[str, float]],
    best: Mapping[str, float] | None = None,
) -> Table:
    """Figures of a model between its baselines and the best possible."""
    shown = {key: label for key, label in SHOWN[product].items() if key in metrics}
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for label in shown.values():
        table.add_column(label, justify="right")
    for name, values in baselines.items():
        table.add_row(name, *(_figure(key, values) for key in shown))
    table.add_row("this model", *(_figure(key, metrics) for key in shown), style="bold")
    if best is not None:
        table.add_row("best possible", *(_figure(key, best) for key in shown), style="dim")
    return table


def _figure(key: str, values: Mapping[str, float]) -> str:
    if key not in values:
        return ""
    if key == "wer" and "words" in values:
        return f"{values[key]:.2%} ({values['word_errors']:.0f} of {values['words']:.0f})"
    return f"{values[key]:.2%}" if key in PERCENT else f"{values[key]:.4f}"
