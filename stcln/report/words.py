"""What the report says in words: selection, method, reading, limits; the same in HTML, Markdown and JSON."""

from typing import Any

from stcln.report.collect import Results
from stcln.study import Method

SWITCHES = {
    "positions": "position of a date", "padding": "padded dates", "clouds": "cloudy pixels",
    "vegetation": "NDVI of the mask's vegetation gate is of", "statistics": "normalisation statistics of",
    "dates": "choice of dates", "lists": "listed tile ids", "excluded": "pixels left out of the scores by",
    "test_window": "window at test time", "empty_mask": "a step with nothing masked",
}  # fmt: skip
WARNING = "No number or map here describes a real field."


def simulated(results: Results) -> str:
    """The warning of a report on simulated data; empty for real ones."""
    return f"Simulated data. {WARNING}" if results.study.simulated else ""


def selection(results: Results) -> list[str]:
    """How the models were selected, and what labels that took."""
    rules = dict.fromkeys(cell.selection for cell in results.cells)
    said = [f"Every model is that of its best epoch by {rule.rstrip('.')}." for rule in rules]
    if not results.study.finetune.folds:
        said.append(
            "The validation tiles' labels are labels too, and they come on top of an arm's training share: a user with "
            "only that share could not select this way. `finetune.folds` selects inside the budget instead."
        )
    histories = [history for cell in results.cells for history in cell.histories.values()]
    if histories:
        trained = _range([sum(history["labelled"].values()) for history in histories])
        chosen = _range([history["validation_pixels"] for history in histories])
        said.append(f"Here {trained} labelled pixels trained a model, and {chosen} selected its epoch.")
    return said


def _range(counts: list[int]) -> str:
    return " to ".join(dict.fromkeys(f"{n:,}" for n in (min(counts), max(counts))))


def method(results: Results) -> list[dict[str, Any]]:
    """Every method switch, its value, and whether it differs from this package's default."""
    ours = Method().model_dump()
    return [
        {"switch": name, "means": SWITCHES.get(name, name), "value": value, "ours": value == ours[name]}
        for name, value in results.study.method.model_dump().items()
    ]


def reading(results: Results) -> list[str]:
    """How to read the page."""
    left_out = ", ".join(results.classes[k] for k in results.ignore) or "no class"
    first, last = results.study.cells.season[0], results.study.cells.season[-1]
    return [
        f"“{first} → {last}” means fine-tuned on labels of {first} and tested on {last}; the same year on both sides "
        "is the ordinary test.",
        "Numbers are mean ± sample standard deviation over seeds. A seed changes the drawn labels, the initial weights "
        "and the order of samples, not the test pixels: the spread says how far a repeat may fall, not how far another "
        "region may.",
        "Paired differences compare models of equal seed and equal labels, the first named minus the second.",
        "mIoU and macro-F1 are means over the classes that occur in truth or prediction, so a rare class counts as "
        "much as a common one.",
        f"Left out of all scores by their truth: {left_out}, and pixels outside every class.",
        "Every score of Table 1 links to the digests of what made it; `python -m stcln lineage reports/study` compares "
        "these with the files that stand.",
    ]


def limits(results: Results) -> list[str]:
    """What the numbers do not show."""
    study = results.study
    said = ["The data are simulated: ranks of methods here need not hold on real fields."] if study.simulated else []
    if len(study.cells.season) == 1:
        said.append("One season: nothing is said about another year.")
    fewest = min(len(test.seeds) for test in results.tests)
    if fewest < 5:
        said.append(
            f"{fewest} seed{'s' * (fewest > 1)}: "
            + (
                "a standard deviation of so few is itself uncertain."
                if fewest > 1
                else "there is no spread to judge by."
            )
        )
    if set(study.pretrain.seasons) & set(study.cells.season) and study.cells.pretrained:
        said.append(
            f"Pre-training used unlabelled series of {' and '.join(study.pretrain.seasons)}: where the tested season "
            "is among them, the encoder knew its weather, though none of its labels and none of its test tiles."
        )
    said.append("Test tiles lie in the same region as the training tiles; transfer to another region is not tested.")
    said.append("Confidence is the softmax share and has not been calibrated.")
    if results.absent:
        said.append(f"Not yet scored and missing here: {', '.join(results.absent)}.")
    return said
