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
COLUMNS = (
    "Majority: the accuracy of the best constant answer. Trained classes: the share of the tested pixels whose class "
    "had a training label; a model names no others."
)
PUBLISHED = (
    "As the paper's code computes them, to compare with printed numbers: pixels predicted as an ignored class are left "
    "out, and means are over classes in truth or prediction. Means over seeds. No finding here rests on them."
)
INTERVALS = (
    "In parentheses the 95 % interval of the mean over seeds, by Student's t; fewer than three seeds have none, and a "
    "± is their standard deviation. A difference is clear only where its interval leaves out 0; of twenty that are "
    "nothing, about one does so by chance."
)
LAST = "12-31"  # day of a length without a cut
WARNING = "No number or map here describes a real field."
TRIAL = (
    "`dataset.only` leaves out the rest of the archive: the numbers show that the steps run, not how good the maps are."
)


def warnings(results: Results) -> list[tuple[str, str]]:
    """What a reader must know before any number, in a few words and a sentence; nothing on the whole of real data."""
    said = [("Simulated data.", WARNING)] if results.simulated else []
    found = {name: season.validation for name, season in results.seasons.items()}
    if trials := [f"{of['tiles']:,} tiles of {name}" for name, of in found.items() if of["trial"]]:
        said.append((f"A trial on {' and '.join(trials)}.", TRIAL))
    return said


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
    encoder = (
        " A pretrained arm's encoder is the exception: it was pre-trained once, for all seeds, so spread and interval "
        "leave out the variance of pre-training itself."
    ) * bool(results.study.cells.pretrained)
    return [
        f"“{first} → {last}” means fine-tuned on labels of {first} and tested on {last}; the same year on both sides "
        "is the ordinary test.",
        "Numbers are mean ± sample standard deviation over seeds. A seed changes the drawn labels, the initial weights "
        "and the order of samples, not the test pixels: the spread says how far a repeat may fall, not how far another "
        f"region may.{encoder}",
        "Paired differences compare models of equal seed and equal labels, the first named minus the second.",
        "mIoU and macro-F1 are means over the classes that the test set's truth holds, the same for every seed and "
        "arm: a rare class counts as much as a common one.",
        f"Left out of all scores by their truth: {left_out}, and pixels outside every class.",
        "Every score of Table 1 links to the digests of what made it; `python -m stcln lineage reports/study` compares "
        "these with the files that stand.",
    ]


def limits(results: Results) -> list[str]:
    """What the numbers do not show."""
    study = results.study
    said = ["The data are simulated: ranks of methods here need not hold on real fields."] if results.simulated else []
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
    said += [*_pretrained(results), *_place(results)]
    said.append(
        "The challenger that `export` writes is the cell of the highest test mIoU: being chosen on test scores, its "
        "own are optimistic."
    )
    said.append("Confidence is the softmax share and has not been calibrated.")
    if results.absent:
        said.append(f"Not yet scored and missing here: {', '.join(results.absent)}.")
    return said


def _pretrained(results: Results) -> list[str]:
    """What pre-training knew of the tested seasons."""
    study, seasons = results.study, " and ".join(results.study.pretrain.seasons)
    if not study.cells.pretrained:
        return []
    said = [
        f"Pre-training used unlabelled series of {seasons}: where the tested season is among them, the encoder knew "
        "its weather, though none of its labels and none of its test tiles."
    ]
    reach = study.lengths[study.pretrain.length].until or LAST
    if early := [name for name in results.lengths if (study.lengths[name].until or LAST) < reach]:
        named = " and ".join(f"“{name}”" for name in early)
        said.append(
            f"Pre-training read length “{study.pretrain.length}”: at {named} the encoder of a pretrained arm had seen "
            f"later, unlabelled images of {seasons} than the cut allows, so there it is no forecast."
        )
    return said


def _place(results: Results) -> list[str]:
    """Where the test tiles lie."""
    said = []
    if results.study.dataset.layout == "cube":
        said.append(
            "Neighbouring tiles of a cube can share a field: scores on a model's own season are partly recognition of "
            "fields seen in training."
        )
    said += [
        f"The tiles of {' and '.join(pair)} share no ground: from one to the other, place changes with the season, and "
        "the scores do not tell which of the two costs what."
        for pair in sorted(sorted(pair) for pair in results.apart)
    ]
    if not results.apart:
        said.append("Test tiles lie in the same region as the training tiles; another region is not tested.")
    return said
