"""The command line. Every command is a few lines around a function of the package, imported when it is called, so that
``fieldwright --help`` answers at once.

Results go to stdout, progress and errors to stderr. Exit code 2 and one line for everything that a user can mend, 130
after Ctrl-C; a traceback is a defect of ours.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fieldwright.errors import DataError, FieldwrightError, InputError

app = typer.Typer(
    name="fieldwright",
    help="From a PDE to a neural surrogate you can trust, in one command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a packaged recipe, or path of a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe: training.steps=60")
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run.")]
Out = Annotated[Path | None, typer.Option("--out", help="Where results go.", show_default=False)]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Same as seed=... in the recipe.", show_default=False)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:0, mps.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no notices.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line of stdout.")]

BudgetSeconds = Annotated[float, typer.Option("--budget-seconds", help="Of all pilots with their data.")]
MaxSamples = Annotated[
    int | None, typer.Option("--max-samples", help="Training samples of the largest pilot.", show_default=False)
]

INTERRUPTED = 130
STORAGE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR})


@app.command(epilog="Example: fieldwright run darcy training.seconds=60 --out runs/quick")
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Out = None,
    seed: Seed = None,
    target: Annotated[
        float | None,
        typer.Option("--target", help="Plan for this error first (see `plan`), then follow.", show_default=False),
    ] = None,
    budget_seconds: BudgetSeconds = 600.0,
    max_samples: MaxSamples = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Generate data, train, evaluate and report: the whole recipe. The same command continues an unfinished run."""
    from fieldwright.pipeline import figures, five_figures

    if target is not None:
        _run_for_target(
            recipe,
            tuple(_with_seed(overrides or [], seed)),
            target,
            out,
            budget_seconds=budget_seconds,
            max_samples=max_samples,
            device=device,
            quiet=quiet,
            as_json=as_json,
        )
        return
    summary = _do_stages(recipe, overrides, out, seed, device, quiet, until="report")
    if summary is not None:
        _print(figures(summary), five_figures(summary), as_json=as_json)


@app.command(epilog="Example: fieldwright train darcy training.steps=500")
def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Out = None,
    seed: Seed = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Generate what is missing of the data and train, without evaluation; `run` goes on from there."""
    summary = _do_stages(recipe, overrides, out, seed, device, quiet, until="train")
    if summary is not None:
        facts = {"directory": str(summary.directory), **summary.stages["train"]}
        _print(facts, f"trained: {summary.directory / 'surrogate'}", as_json=as_json)


@app.command(epilog="Example: fieldwright generate darcy samples=1000 problem.resolution=128 --out data/darcy")
def generate(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Out = None,
    seed: Seed = None,
    device: Annotated[str, typer.Option("--device", help="Where systems are solved: cpu, cuda or auto.")] = "cpu",
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="WHERE",
            help="Make shards on local[:N] processes, a Dask scheduler's tcp://HOST:PORT, or slurm[:JOBS].",
            show_default=False,
        ),
    ] = None,
    cluster_option: Annotated[
        list[str] | None,
        typer.Option("--cluster-option", metavar="KEY=VALUE", help="Of SLURM jobs: cores=64, memory=120GB, queue=..."),
    ] = None,
    cluster_timeout: Annotated[
        float, typer.Option("--cluster-timeout", help="Seconds within which a scheduler has to answer.")
    ] = 10.0,
    plan: Annotated[bool, typer.Option("--plan", help="Measure what it would cost; generate nothing.")] = False,
    nodes: Annotated[
        int | None, typer.Option("--nodes", min=1, help="With --plan: nodes of a cluster.", show_default=False)
    ] = None,
    cores: Annotated[
        int | None, typer.Option("--cores", min=1, help="With --plan: cores of each node.", show_default=False)
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw and solve a dataset alone: samples=N training samples, or the splits data.train, data.valid, data.test."""
    from fieldwright.allocator import keep_freed_memory
    from fieldwright.datasets import Cluster
    from fieldwright.pipeline import estimate_stage, generate_stage, plain
    from fieldwright.recipe import load_recipe, recipe_name

    asked = [f"data.train={o.partition('=')[2]}" if o.startswith("samples=") else o for o in overrides or []]
    chosen = load_recipe(recipe, _with_seed(asked, seed))
    named = {o.partition("=")[0] for o in asked}
    counts = {
        split: count if asked == (overrides or []) or f"data.{split}" in named else 0
        for split, count in chosen.data.counts.items()
    }
    path = out or Path("datasets") / recipe_name(recipe)
    if plan:
        model = estimate_stage(chosen, path, counts=counts, device=device, reporter=_reporter(quiet))
        workers = (nodes or 1) * (cores or 1) if nodes or cores else None
        _print(plain(model.to_dict(workers)), "\n".join(model.lines(workers)), as_json=as_json)
        return
    if nodes or cores:
        raise InputError("--nodes and --cores are for --plan; where shards are made, --cluster says")
    if cluster_option and cluster is None:
        raise InputError("--cluster-option is for --cluster slurm")
    keep_freed_memory()
    where = None if cluster is None else Cluster(cluster, _pairs(cluster_option or []), cluster_timeout)
    summary = generate_stage(chosen, path, counts=counts, device=device, cluster=where, reporter=_reporter(quiet))
    facts = {**plain(summary), "samples": sum(summary.samples.values()), "splits": summary.samples, "path": str(path)}
    failed = sum(map(len, summary.failed.values()))
    text = (
        f"{facts['samples']} samples in {summary.shards} shards at {path}, {summary.solve_seconds:.2f} s of solving by"
        f" {summary.solver}, worst relative residual {summary.worst_residual:.1e}"
        + (f"; {failed} did not converge and are not stored" if failed else "")
    )
    _print(facts, text, as_json=as_json)


@app.command(epilog="Example: fieldwright inspect runs/darcy/dataset --draw samples.png")
def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A dataset, or a run that has one.")],
    draw: Annotated[Path | None, typer.Option("--draw", help="Draw samples into this PNG.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Say what a dataset holds and verify its checksums."""
    from fieldwright.datasets import draw_samples
    from fieldwright.datasets import inspect as inspect_dataset

    path = path / "dataset" if (path / "dataset").is_dir() else path
    inspection = inspect_dataset(path)
    if draw is not None and inspection.sound:
        draw_samples(path, draw)
    _print(inspection.to_dict(), "\n".join(inspection.lines()), as_json=as_json)
    if not inspection.sound:
        raise DataError("; ".join(inspection.troubles))


@app.command(epilog="Example: fieldwright convert burgers.mat data/burgers --split train=0.8,valid=0.1,test=0.1")
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file, a directory, a pattern or an address.")],
    destination: Annotated[Path, typer.Argument(metavar="DESTINATION", help="A directory for a dataset, else a file.")],
    source_format: Annotated[str, typer.Option("--from", help="What SOURCE is, if not what its content says.")] = "",
    target_format: Annotated[str, typer.Option("--to", help="What to write, if not what the ending says.")] = "",
    split: Annotated[str, typer.Option("--split", help="train=0.8,valid=0.1,test=0.1, or numbers of samples.")] = "",
    roles: Annotated[
        list[str] | None, typer.Option("--map", help="What an array is: NAME=input, NAME=output:nxyt, ...")
    ] = None,
    grid: Annotated[str, typer.Option("--grid", help="Of points without coordinates: node, 'cell -1:1', ...")] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", help="Samples of each split at most.", show_default=False)
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a dataset of data in another project's format, or the other way round."""
    from fieldwright.datasets.formats import convert as convert_set

    conversion = convert_set(
        source,
        destination,
        source_format=source_format,
        format=target_format,
        split=split,
        roles=roles or [],
        grid=grid,
        limit=limit,
        reporter=_reporter(quiet),
    )
    _print(conversion.to_dict(), conversion.sentence, as_json=as_json)


@app.command(epilog="Example: fieldwright evaluate runs/darcy")
def evaluate(run: RunPath, device: Device = "auto", quiet: Quiet = False, as_json: Json = False) -> None:
    """Evaluate a trained run again and rewrite its report."""
    from fieldwright.pipeline import evaluate_again, figures, five_figures

    summary = evaluate_again(run, device=device, reporter=_reporter(quiet))
    _print(figures(summary), five_figures(summary), as_json=as_json)


@app.command(epilog="Example: fieldwright predict runs/darcy permeability.npy --out pressure.npy --solve 1e-6")
def predict(
    run: RunPath,
    inputs: Annotated[Path, typer.Argument(metavar="INPUT", help="Input fields: .npy, .npz, .h5, .hdf5 or .mat.")],
    out: Out = None,
    solve: Annotated[
        float | None, typer.Option("--solve", help="Certify: solve to this relative residual.", show_default=False)
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option("--frames", help="Roll a problem in time out over so many frames.", show_default=False),
    ] = None,
    lead_time: Annotated[
        float | None,
        typer.Option("--lead-time", help="Time from inputs to outputs, if trained with pairs.", show_default=False),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Predict the outputs for fields in a file, with error estimates; the format of --out follows from its ending."""
    from fieldwright.pipeline import predict_file

    target = out or inputs.with_name(f"{inputs.stem}-predicted{inputs.suffix}")
    facts = predict_file(
        run,
        inputs,
        target,
        rtol=solve,
        frames=frames,
        lead_time=lead_time,
        device=device,
        reporter=_reporter(quiet),
    )
    _print(facts, facts["sentence"], as_json=as_json)


@app.command(epilog="Example: fieldwright report runs/darcy")
def report(run: RunPath, as_json: Json = False) -> None:
    """Write the report of an evaluated run again, without computing anything."""
    from fieldwright.pipeline import report_again

    path = report_again(run)
    _print({"report": str(path)}, str(path), as_json=as_json)


@app.command("list", epilog="Example: fieldwright list --operators --grid 128,128 --channels 3,1")
def list_names(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="problems, operators, recipes, solvers or gallery.")
    ] = "all",
    operators: Annotated[
        bool, typer.Option("--operators", help="What each operator takes, its weights, FLOPs and paper.")
    ] = False,
    grid: Annotated[
        str | None, typer.Option("--grid", help="With --operators: points per axis (64,64).", show_default=False)
    ] = None,
    channels: Annotated[
        str | None, typer.Option("--channels", help="With --operators: fields in and out (1,1).", show_default=False)
    ] = None,
    dimension: Annotated[
        int | None, typer.Option("--dimension", min=1, max=3, help="With --operators: axes (2).", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Name problems, operators, recipes and solvers, with one line each; or tell of the operators what they cost."""
    from fieldwright.catalogue import catalogue, operator_lines

    if operators:
        from fieldwright.operators.survey import survey, usual_shape

        shape = usual_shape(_counts("--grid", grid), dimension)
        given = _counts("--channels", channels) or (1, 1)
        if len(given) != 2:
            raise InputError(f"--channels {channels}; two numbers are needed, fields in and out, such as 3,1")
        facts = survey(shape, in_channels=given[0], out_channels=given[1])
        listed = {"grid": shape, "channels": given, "operators": [dataclasses.asdict(one) for one in facts]}
        _print(listed, "\n".join(operator_lines(facts, shape)), as_json=as_json)
        return
    if grid or channels or dimension:
        raise InputError("--grid, --channels and --dimension are for --operators")
    sections = catalogue(what)
    width = max(len(name) for names in sections.values() for name in names)
    lines = [
        line
        for section, names in sections.items()
        for line in (section, *(f"  {name:{width}}  {summary}" for name, summary in names.items()))
    ]
    _print(sections, "\n".join(lines), as_json=as_json)


@app.command(epilog="Example: fieldwright compare darcy --operators multigrid,fourier,unet --budget 60s --seeds 3")
def compare(
    recipe: RecipeName,
    overrides: Overrides = None,
    operators: Annotated[
        str, typer.Option("--operators", metavar="NAME,NAME", help="Names of `fieldwright list`, or module:Class.")
    ] = "multigrid,fourier",
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="Of each training: 60s, 5min, 1e13flops, 2000steps.", show_default=False),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each operator.")] = 3,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME.KEY=VALUE", help="For one operator: unet.width=8, unet.training.steps=9."),
    ] = None,
    out: Out = None,
    seed: Seed = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train operators side by side on the same data and budget, and report. The same command continues."""
    from fieldwright.pipeline import Contest, comparison_lines, plain
    from fieldwright.pipeline import compare as compare_operators
    from fieldwright.recipe import recipe_name

    contest = Contest(
        recipe,
        operators=tuple(name.strip() for name in operators.split(",") if name.strip()),
        overrides=tuple(_with_seed(overrides or [], seed)),
        changes=tuple(changes or ()),
        budget=budget,
        seeds=seeds,
    )
    directory = out or Path("runs") / f"compare-{recipe_name(recipe)}"
    comparison = compare_operators(contest, directory, device=device, reporter=_reporter(quiet))
    facts = {**plain(comparison), "directory": str(directory), "report": str(directory / "report.html")}
    _print(facts, "\n".join([*comparison_lines(comparison), f"Report: {facts['report']}"]), as_json=as_json)


@app.command(epilog="Example: fieldwright plan darcy --target 0.01 --budget-seconds 1800")
def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    target: Annotated[float, typer.Option("--target", help="Median relative L2 error on the test split.")] = 0.01,
    budget_seconds: BudgetSeconds = 600.0,
    max_samples: MaxSamples = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of the best model at each size.")] = 1,
    device_name: Annotated[
        str | None, typer.Option("--device-name", help="Say also how long training takes there.", show_default=False)
    ] = None,
    device_ratio: Annotated[
        float | None,
        typer.Option("--device-ratio", help="How many times faster a step is there.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Answer although a check refuses.")] = False,
    out: Out = None,
    seed: Seed = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say how many samples, what model and how long a target error takes, from small pilots. The same command
    continues."""
    from fieldwright.pipeline import Question, plan_facts, plan_target
    from fieldwright.recipe import recipe_name

    question = Question(
        recipe,
        target,
        tuple(_with_seed(overrides or [], seed)),
        budget_seconds=budget_seconds,
        max_samples=max_samples,
        seeds=seeds,
        device_name=device_name,
        device_ratio=device_ratio,
        force=force,
    )
    directory = out or Path("runs") / f"plan-{recipe_name(recipe)}"
    answer = plan_target(question, directory, device=device, reporter=_reporter(quiet))
    facts = {**plan_facts(answer), "directory": str(directory), "report": str(directory / "report.html")}
    _print(facts, "\n".join([*answer.lines, f"Report: {facts['report']}"]), as_json=as_json)


@app.command(epilog="Example: fieldwright merge runs/a runs/b --out runs/ab --fine-tune 500")
def merge(
    members: Annotated[list[Path], typer.Argument(metavar="RUN RUN", help="Trained runs of one problem and operator.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The run to make.", show_default="runs/FIRST-SECOND")
    ] = None,
    fine_tune: Annotated[int, typer.Option("--fine-tune", min=0, help="Steps of training after the merge.")] = 0,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", help="Of the fine-tuning.", show_default="0.3 of the members'"),
    ] = None,
    templates: Annotated[
        int | None,
        typer.Option("--templates", min=1, help="Templates that make the weights meanwhile.", show_default="none"),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Merge trained surrogates into one of their total width, which begins as their mean."""
    from fieldwright.pipeline import merge_runs

    merged = merge_runs(
        members,
        out or Path("runs") / "-".join(member.resolve().name for member in members),
        fine_tune=fine_tune,
        learning_rate=learning_rate,
        templates=templates,
        device=device,
        reporter=_reporter(quiet),
    )
    _print(merged.to_dict(), merged.sentence, as_json=as_json)


@app.command(epilog="Example: fieldwright doctor")
def doctor(as_json: Json = False) -> None:
    """Check versions, threads, compiler cache, disk, accelerator and browser."""
    from fieldwright.doctor import examine

    checks = examine()
    lines = [f"{'ok  ' if check.good else 'MIND'}  {check.name}: {check.finding}" for check in checks]
    facts = {check.name: {"good": check.good, "finding": check.finding} for check in checks}
    _print(facts, "\n".join(lines), as_json=as_json)


@app.command(epilog="Example: fieldwright reproduce multigrid-neural-operator")
def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A method of the gallery; `fieldwright list gallery`.")],
    out: Out = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Seconds instead of minutes, to see that it runs; figures mean nothing.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a method's headline on this machine and write its page of the gallery."""
    from fieldwright.gallery import reproduce as reproduce_method
    from fieldwright.gallery import verdict

    directory = out or Path("runs/gallery" if quick else "docs/gallery")
    measured = reproduce_method(name, directory, quick=quick, reporter=_reporter(quiet))
    page = str(directory / f"{name}.md")
    facts = {"page": page, "seconds": measured.seconds, "holds": measured.holds}
    _print(facts, f"{verdict(measured)}\n{page}", as_json=as_json)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run_command(sys.argv[1:] if arguments is None else arguments))


def run_command(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = app(arguments or ["--help"], standalone_mode=False)
        # typer turns Ctrl-C into this code and says nothing.
        return _interrupted() if code == INTERRUPTED else code or 0
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except FieldwrightError as error:
        if type(error).__name__ == "TrainingStopped":
            return _interrupted(str(error))
        return _failed(str(error))
    except OSError as error:
        if error.errno not in STORAGE_ERRNOS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _failed(f"{where}{error.strerror or error}")
    except Exception as error:
        # Bad usage: typer's exceptions carry their sentence in format_message, whichever click it is built on.
        sentence = getattr(error, "format_message", None)
        if sentence is None:
            raise
        return _failed(sentence())


def _do_stages(
    recipe: str,
    overrides: list[str] | None,
    out: Path | None,
    seed: int | None,
    device: str,
    quiet: bool,
    *,
    until: str,
) -> Any:
    from fieldwright import pipeline
    from fieldwright.recipe import load_recipe, recipe_name

    chosen = load_recipe(recipe, _with_seed(overrides or [], seed))
    directory = out or Path("runs") / recipe_name(recipe)
    return pipeline.run(chosen, directory, device=device, until=until, reporter=_reporter(quiet))


def _run_for_target(
    recipe: str,
    overrides: tuple[str, ...],
    target: float,
    out: Path | None,
    *,
    budget_seconds: float,
    max_samples: int | None,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    from fieldwright import pipeline
    from fieldwright.recipe import recipe_name

    question = pipeline.Question(recipe, target, overrides, budget_seconds=budget_seconds, max_samples=max_samples)
    directory = out or Path("runs") / recipe_name(recipe)
    reporter = _reporter(quiet)
    answer = pipeline.plan_target(
        question, directory.with_name(f"plan-{directory.name}"), device=device, reporter=reporter
    )
    reporter.notice("\n".join(answer.lines))
    chosen = pipeline.planned_recipe(question, answer)
    summary = pipeline.run(chosen, directory, device=device, reporter=reporter)
    if summary is None:
        return
    facts = {**pipeline.figures(summary), "target": target, "plan": pipeline.plan_facts(answer)}
    facts["target_reached"] = facts["median_relative_l2"] <= target
    said = (
        f"Target {100 * target:.3g} %: {'reached' if facts['target_reached'] else 'MISSED'},"
        f" {100 * facts['median_relative_l2']:.3g} % measured"
    )
    _print(facts, f"{pipeline.five_figures(summary)}\n{said}", as_json=as_json)


def _pairs(options: list[str]) -> dict[str, str]:
    pairs = [option.partition("=") for option in options]
    for option, (key, equals, _) in zip(options, pairs, strict=True):
        if not (key and equals):
            raise InputError(f"--cluster-option '{option}'; write KEY=VALUE, such as cores=64")
    return {key: value for key, _, value in pairs}


def _counts(option: str, text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError as error:
        raise InputError(f"{option} {text}; whole numbers with commas between are needed, such as 64,64") from error


def _with_seed(overrides: list[str], seed: int | None) -> list[str]:
    return overrides if seed is None else [*overrides, f"seed={seed}"]


def _reporter(quiet: bool) -> Any:
    from fieldwright.progress import Reporter

    return Reporter(quiet=quiet)


def _print(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, allow_nan=False, default=str), flush=True)
    else:
        print(text, flush=True)


def _failed(sentence: str) -> int:
    print(f"fieldwright: {' '.join(sentence.split())}", file=sys.stderr, flush=True)
    return 2


def _interrupted(sentence: str = "interrupted; the same command goes on from where it stopped") -> int:
    _failed(sentence)
    return INTERRUPTED
