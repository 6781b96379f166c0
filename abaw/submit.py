"""``abaw submit``: write ``predictions.txt`` of scores, or check anyone's."""

from pathlib import Path

from abaw.command_parser import CommandParser
from abaw.files import expand


def main(argv: list[str]) -> int:
    """Run ``abaw submit`` with its arguments; return the exit status.

    Raises:
        InputError: If the scores, the template or the file to check is wrong.
    """
    parser = CommandParser(
        prog="abaw submit",
        usage="abaw submit SCORES [SCORES ...] [--template FILE] [--output FILE]\n"
        "       abaw submit --check FILE [--template FILE]",
        description="Write the challenge's predictions.txt from the scores of 'abaw predict', or check one.",
    )
    parser.add_argument(
        "scores",
        metavar="SCORES",
        nargs="*",
        type=expand,
        help="folder of <video>.safetensors; one keeps the labels that its run decided on, several (those of "
        "the folds' models) are averaged",
    )
    parser.add_argument(
        "--template",
        metavar="FILE",
        type=expand,
        help="the organisers' sample submission, whose rows and order are kept (default: a row a frame)",
    )
    parser.add_argument(
        "--output", metavar="FILE", type=expand, help="file to write (default: predictions.txt)"
    )
    parser.add_argument(
        "--check",
        metavar="FILE",
        type=expand,
        help="check this submission of the challenge's eight classes instead",
    )
    args = parser.parse_args(argv)
    if bool(args.scores) == bool(args.check):
        parser.error("give either scores or --check FILE")
    if args.check and args.output:
        parser.error("--check writes nothing: leave --output out")
    if args.check:
        return check(args.check, args.template)
    return submit(args.scores, args.template, args.output or Path("predictions.txt"))


def check(path: Path, template: Path | None) -> int:
    """Say that a submission is right, or what is wrong with it."""
    from abaw.postprocess import check_submission  # torch: not for --help

    report = check_submission(path, template)
    compared = f", the rows of {template} in its order" if template else "; no template to compare it with"
    print(f"{path}: {report.rows} rows of {report.videos} videos{compared}")
    return 0


def submit(folders: list[Path], template: Path | None, output: Path) -> int:
    """Write the submission of one run's scores, or of several runs' average."""
    from abaw.postprocess import average_scores, list_scores, submit_scores  # torch: not for --help

    averages = ((video, average_scores(paths)) for video, paths in list_scores(folders).items())
    print(submit_scores(output, template, averages).describe(output))
    return 0
