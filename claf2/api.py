"""The functions of the Python API: `claf2.load`, `claf2.train` and so on. The command line calls the same functions.

Each loads what it needs when it is called. What is global in PyTorch and `transformers` (deterministic kernels, the
verbosity of logs) is set while a function runs, and put back at its end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from claf2 import config
from claf2.config import Experiment
from claf2.config.source import Override, parse_overrides
from claf2.errors import ConfigError, RunError

if TYPE_CHECKING:
    from claf2.benchmarking.backends import Backend
    from claf2.benchmarking.cell_queue import CellQueue
    from claf2.benchmarking.cells import Cell, CellResult
    from claf2.benchmarking.comparison import Comparison
    from claf2.benchmarking.curve import CheckpointCurve
    from claf2.benchmarking.matrix import BenchModel, Progress
    from claf2.benchmarking.summary import Summary
    from claf2.evaluation.report import Report
    from claf2.task import Suite

__all__ = ["bench", "compare", "evaluate", "explain", "load", "train", "watch"]

MULTI_TASK = "multi_task/mtdnn"
"""The BaseConfig whose tasks ``load(tasks=...)`` names."""

AnyPath: TypeAlias = str | os.PathLike[str]


def load(
    name: AnyPath | None = None,
    *,
    tasks: Sequence[str] = (),
    plugins: Sequence[AnyPath] = (),
    sample: bool = False,
    argv: Sequence[str] = (),
    **overrides: Any,
) -> Experiment:
    """Load a BaseConfig, with some of its fields set.

    Args:
        name: the name of a BaseConfig (``klue/korquad_bert``), or the path of one, such as a run's ``config.json``.
        tasks: BaseConfigs that are trained together, in the multi-task BaseConfig ``name`` (by default
            ``multi_task/mtdnn``).
        plugins: files or modules with further components.
        sample: use a small generated sample of each task instead of its data.
        argv: further overrides, as on the command line: ``["--learning_rate", "3e-5"]``.
        **overrides: field → value. A field is named by its path or by a unique suffix of it; a path with dots is passed
            in a dictionary: ``**{"bert_for_qa.pretrained_model_name": "klue/bert-base"}``.

    Returns:
        The experiment: typed, checked and frozen.

    Raises:
        ConfigError: if a field is wrong; the message names it, the origin of its value, and how to fix it.

    Examples:
        >>> experiment = claf2.load("glue/rte_bert", learning_rate=3e-5, num_epochs=3)
        >>> experiment.optimizer_config.learning_rate
        3e-05
    """
    given = _to_overrides(argv, overrides, sample=sample)
    if tasks:
        given.append(Override("tasks", tasks if isinstance(tasks, str) else ",".join(tasks)))
    elif name is None:
        raise ConfigError("base_config", "is missing", hint="name one; `claf2 config list` prints all names")
    return config.load(
        MULTI_TASK if name is None else os.fspath(name), given, [os.fspath(plugin) for plugin in plugins]
    )


def train(
    experiment: Experiment | AnyPath | None = None, *, resume: bool = False, overwrite: bool = False,
    from_run: AnyPath | None = None, changed: str | Sequence[str] = (), **settings: Any,
) -> Report:  # fmt: skip
    """Train an experiment in its folder, ``trainer.log_dir``.

    In a notebook or a terminal, a progress bar is shown. Messages go to the logger ``claf2``, and to ``train.log`` in
    the folder. Started by `torchrun`, the processes train together.

    Args:
        experiment: the experiment, or the name or path of a BaseConfig.
        resume: continue the run in the folder, if there is one.
        overwrite: replace the run in the folder, if there is one.
        from_run: instead of an experiment: the folder of a finished run to repeat exactly, in a new folder.
        changed: with ``from_run``: the kinds of change to accept, such as ``"versions"`` or ``["versions"]``.
        **settings: with the name of a BaseConfig, the arguments of ``load``; with ``from_run``, fields that do not
            change the scores, such as ``log_dir``.

    Returns:
        The report on the best checkpoint.

    Raises:
        Claf2Error: if something is wrong that the user can fix.
        Interrupted: after Ctrl-C; the state is saved.

    Examples:
        >>> report = claf2.train("scratch/nsmc", sample=True, num_steps=20)
        >>> report.value("accuracy")
        63.5
    """
    if from_run is not None:
        others = {name: settings.pop(name, None) for name in ("tasks", "plugins", "sample")}
        named = ["the experiment"] * (experiment is not None) + [name for name, value in others.items() if value]
        if named:
            problem = "cannot be combined with another experiment: it repeats a run unchanged"
            raise ConfigError("from_run", problem, hint=f"leave out {' and '.join(named)}")
    if from_run is None and changed:
        raise ConfigError("changed", "can only be used with from_run", hint="add from_run, or leave it out")
    loaded = None if from_run is not None else _to_experiment(experiment, settings)

    from claf2.runs import repeat, train
    from claf2.runtime import distributed
    from claf2.runtime.device import preserve_backends

    with distributed.process_group(), preserve_backends():
        if loaded is not None:
            return train.train(loaded, resume=resume, overwrite=overwrite)
        given = _to_overrides(settings.pop("argv", ()), settings)
        kinds = [kind for part in _to_list(changed) for kind in part.split(",") if kind]
        return repeat.repeat(Path(str(from_run)), given, changed=kinds, resume=resume, overwrite=overwrite)


def evaluate(run: AnyPath, data_file: AnyPath | None = None, task: str | None = None) -> Report:
    """Evaluate the best checkpoint of a run, and write scores and predictions into its folder.

    Started by `torchrun`, the processes divide the batches among themselves.

    Args:
        run: the folder of the run.
        data_file: a file to evaluate on; by default the run's own validation data.
        task: one of the run's tasks, or another task with the same head and labels whose format and metrics fit
            ``data_file``. By default all tasks of the run.

    Returns:
        The report.

    Raises:
        Claf2Error: when there is no such run, or the task does not fit it.

    Examples:
        >>> claf2.evaluate("logs/klue/korquad").logs()
        {'valid/f1': 89.1, 'valid/em': 81.3, 'valid/loss': 0.52}
    """
    from claf2.export.opening import evaluate_finished
    from claf2.runtime import distributed
    from claf2.runtime.device import preserve_backends

    with distributed.process_group(), preserve_backends():
        return evaluate_finished(Path(run), None if data_file is None else Path(data_file), task)


def explain(
    experiment: Experiment | AnyPath, *, steps: int = 3, resume: bool = False, overwrite: bool = False,
    hardware: str | None = None, utilization: float | None = None, price: float | None = None, **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """Return what ``train`` would do and what it would cost, without training.

    Args:
        experiment: the experiment, or the name or path of a BaseConfig.
        steps: the number of steps to measure; 0: time and memory are not estimated.
        resume: as in ``train``.
        overwrite: as in ``train``.
        hardware: of a pre-training: the devices to plan for, such as ``"16xV100"``.
        utilization: the share of their peak that they reach, from 0 to 1; by default 0.3.
        price: the price of a device for an hour.
        **settings: with the name of a BaseConfig, the arguments of ``load``.

    Returns:
        JSON values: memory in MiB, times in seconds, lengths in tokens.

    Raises:
        Claf2Error: where ``train`` would.
        ConfigError: when there is no training to describe, or an argument does not fit it.

    Examples:
        >>> claf2.explain("scratch/nsmc", sample=True)["steps"]["all"]
        188
    """
    for name, value in (("utilization", utilization), ("price", price)):
        if hardware is None and value is not None:
            raise ConfigError(name, "can only be used with hardware", hint="add hardware (16xV100), or leave it out")
    loaded = _to_experiment(experiment, settings)

    from claf2.runs import explain as runs
    from claf2.runs.budget import Hardware
    from claf2.runtime.device import preserve_backends

    reached = Hardware.utilization if utilization is None else utilization
    devices = None if hardware is None else Hardware.parse(hardware, reached, price)
    with preserve_backends():
        return runs.explain(loaded, steps=steps, resume=resume, overwrite=overwrite, hardware=devices)


def bench(
    suite: str, models: str | Sequence[str] = (), *, checkpoints: str | Sequence[str] = (),
    tasks: str | Sequence[str] = (), seeds: Sequence[int] = (1, 2, 3), recipe: str | None = None,
    out: AnyPath | None = None, backend: Backend | None = None, cpus: int | None = None, keep: bool = True,
    retries: int = 1, variants: Mapping[str, Any] | None = None, margin: float = 1.0, latency: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_result: Callable[[CellResult], None] = lambda _: None, **settings: Any,
) -> Summary:  # fmt: skip
    """Train every model on every task of a suite with every seed. Finished cells are not trained again, and interrupted
    ones are resumed.

    Args:
        suite: the name of the suite, such as ``glue``.
        models: hub ids, folders, archives or URLs.
        checkpoints: patterns that match the checkpoints of a pre-training run: ``"dir/step-*"``.
        tasks: tasks of the suite; all of them by default.
        seeds: the seeds.
        recipe: a recipe of the suite; its first one by default.
        out: the folder of the bench; ``logs/bench/<suite>`` by default.
        backend: where cells are trained, from ``claf2.benchmarking.backends``; in this process by default.
        cpus: threads per cell; those of this process by default.
        keep: keep the best checkpoint of each cell.
        retries: how often a cell that fails is trained again.
        variants: name → changed fields, and under ``export`` the arguments of an export. Every model is trained and
            exported in each of these ways, and first as the recipe says, with which the others are compared.
        margin: by how many points a variant may be worse to be called non-inferior.
        latency: measure the latency of the variants at the end.
        on_progress: called whenever a cell has ended.
        on_result: called at the end with the result of each cell, in their order.
        **settings: ``plugins``, ``sample``, ``argv`` and fields of the BaseConfigs, as in ``load``.

    Returns:
        The summary of everything in the folder: a row per model with means, intervals and average, and what failed.
        ``claf2.benchmarking.summary.format_summary`` makes a table of it.

    Raises:
        Claf2Error: when a cell cannot be configured; nothing is trained then.

    Examples:
        >>> summary = claf2.bench("glue", ["bert-base-cased"], tasks=["rte", "mrpc"], seeds=range(5))
        >>> [(row.model, row.average) for row in summary.rows]
        [('bert-base-cased', 76.4)]
    """
    from claf2.benchmarking import matrix
    from claf2.benchmarking.aggregation import summarize_bench
    from claf2.benchmarking.backends import SerialBackend

    bench_models = [matrix.BenchModel(model, model) for model in _to_list(models)]
    bench_models += [model for pattern in _to_list(checkpoints) for model in matrix.find_checkpoints(pattern)]
    cells = _plan_bench(bench_models, suite, _to_list(tasks), seeds, recipe, variants or {}, **settings)
    folder = Path("logs/bench") / cells[0].suite if out is None else Path(out)
    given: dict[str, Any] = {"backend": backend or SerialBackend(), "cpus": cpus, "keep": keep, "retries": retries}
    results = matrix.run_bench(cells, folder, on_progress=on_progress, **given)
    for result in results:
        on_result(result)
    if latency:
        from claf2.benchmarking import cell_latency

        cell_latency.time_cells(results)
    return summarize_bench(folder, margin=margin)


def watch(
    target: AnyPath, suite: str, *, tasks: str | Sequence[str] = (), seeds: Sequence[int] = (1, 2, 3),
    recipe: str | None = None, out: AnyPath | None = None, backend: Backend | None = None, cpus: int | None = None,
    keep: bool = False, retries: int = 1, poll: float = 5.0, until_step: int | None = None, once: bool = False,
    expected: int = 10, tolerance: float = 1.0, on_progress: Callable[[Progress], None] = lambda _: None,
    on_verdict: Sequence[Callable[[CheckpointCurve, str], None]] = (), **settings: Any,
) -> CellQueue:  # fmt: skip
    """Measure the checkpoints of a pre-training on the tasks of a suite as they appear. ``curve.json`` and ``curve.md``
    in the folder of the bench say which moves of the scores are real.

    Args:
        target: the folder of a run, another folder of checkpoints, or the URL of a store.
        suite: the name of the suite, such as ``larva_klue``.
        tasks: tasks of the suite; all of them by default.
        seeds: the seeds.
        recipe: a recipe of the suite; its first one by default.
        out: the folder of the bench; ``logs/watch/<model>/<suite>`` by default.
        backend: where cells are trained, from ``claf2.benchmarking.backends``; in this process by default.
        cpus: threads per cell; those of this process by default.
        keep: keep the best checkpoint of each cell.
        retries: how often a cell that fails is trained again.
        poll: seconds between two looks for new checkpoints.
        until_step: end when there is a checkpoint of this step or a later one, and those up to this step are measured.
        once: end when the checkpoints that are there now are measured.
        expected: how many checkpoints are expected: the error rate of verdicts is shared among them.
        tolerance: what the average gains at most on a plateau, in points.
        on_progress: called whenever a cell has ended.
        on_verdict: called with the curve and a sentence when a checkpoint and all before it are measured.
        **settings: ``plugins``, ``sample``, ``argv`` and fields of the BaseConfigs, as in ``load``.

    Returns:
        All cells and their state.

    Raises:
        Claf2Error: when a cell cannot be configured; nothing is trained then.

    Examples:
        >>> claf2.watch("logs/pretraining", "larva_klue", tasks=["nsmc"], on_verdict=[lambda curve, text: print(text)])
    """
    from claf2.benchmarking.backends import SerialBackend
    from claf2.benchmarking.curve import CurveAnalysis
    from claf2.benchmarking.curve_report import CurveReport
    from claf2.benchmarking.watch import CheckpointLister, WatchPlan, default_dir, watch_checkpoints

    lister = CheckpointLister(os.fspath(target))
    found, recipe, words, plugins = _resolve_suite(suite, recipe, **settings)
    plan = WatchPlan(found, seeds, recipe, _to_list(tasks), words, plugins, cpus, keep, retries)
    folder = default_dir(lister.target, found.name) if out is None else Path(out)
    names = list(dict.fromkeys(_to_list(tasks) or found.columns))
    analysis = CurveAnalysis(names, found.averaged, expected=expected, tolerance=tolerance)
    report = CurveReport(folder, found.name, lister.model, analysis, on_verdict)
    return watch_checkpoints(
        lister, plan, folder, backend=backend or SerialBackend(), poll=poll, until_step=until_step, once=once,
        on_progress=on_progress, on_ended=report.update,
    )  # fmt: skip


def _plan_bench(
    models: Sequence[BenchModel], suite_name: str, names: Sequence[str], seeds: Sequence[int], recipe: str | None,
    variants: Mapping[str, Any], **settings: Any,
) -> list[Cell]:  # fmt: skip
    from claf2.benchmarking.matrix import plan_cells
    from claf2.benchmarking.variants import expand_variants, takes_list

    if not models:
        raise RunError("nothing to measure: give --models A B … or --checkpoints 'dir/step-*'")
    suite, chosen, words, plugins = _resolve_suite(suite_name, recipe, **settings)
    is_value = takes_list(list(suite.configs.values()), chosen, words, plugins)
    return plan_cells(
        suite, models, tasks=names, seeds=seeds, recipe=chosen, overrides=words, plugins=plugins,
        variants=expand_variants(variants, is_value),
    )  # fmt: skip


def _resolve_suite(
    suite_name: str, recipe: str | None, *, plugins: Sequence[AnyPath] = (), sample: bool = False,
    argv: Sequence[str] = (), **overrides: Any,
) -> tuple[Suite, str, list[str], list[str]]:  # fmt: skip
    """Return a suite, the recipe of its BaseConfigs, and the overrides and plug-ins for every cell."""
    from claf2.registry import load_plugin
    from claf2.task import suites

    plugin_names = [os.fspath(plugin) for plugin in plugins]
    for plugin in plugin_names:
        load_plugin(plugin)
    suite = suites.get(suite_name)
    given = _to_overrides(argv, overrides, sample=sample)
    words = [word for override in given for word in override.words()]
    return suite, recipe or suite.recipes[0], words, plugin_names


def compare(
    first: AnyPath, second: AnyPath, *, force: bool = False, level: float = 0.95, margin: float = 2.0
) -> Comparison:
    """Test whether the second model scores differently from the first, task by task.

    Args:
        first: a run, or a folder with the runs of one model.
        second: the same for the other model.
        force: compare scores of different recipes; the comparison says so.
        level: the coverage of the intervals.
        margin: the smallest difference of interest, in points.

    Returns:
        The comparison; ``claf2.benchmarking.comparison.format_comparison`` makes a table of it.

    Raises:
        Claf2Error: when the runs cannot be compared.

    Examples:
        >>> comparison = claf2.compare("logs/bench/klue/bert", "logs/bench/klue/roberta")
        >>> [(task.task, task.difference.value, task.verdict) for task in comparison.tasks]
    """
    from claf2.benchmarking.comparison import compare_models

    return compare_models(Path(first), Path(second), force=force, level=level, margin=margin)


def _to_overrides(argv: Sequence[str], values: Mapping[str, Any], *, sample: bool = False) -> list[Override]:
    """Return the overrides of words of the command line and of values by field; the latter take precedence."""
    overrides = [*parse_overrides(argv), *(Override.of_value(name, value) for name, value in values.items())]
    return [*overrides, Override("data_reader.source", "sample")] if sample else overrides


def _to_list(values: str | Sequence[str]) -> list[str]:
    return [values] if isinstance(values, str) else list(values)


def _to_experiment(experiment: Experiment | AnyPath | None, settings: dict[str, Any]) -> Experiment:
    """Return an experiment as it is, or load the one of that name."""
    if not isinstance(experiment, Experiment):
        return load(experiment, **settings)
    if settings:
        problem = "cannot be set: the experiment is already loaded"
        raise ConfigError(next(iter(settings)), problem, hint="set it in claf2.load")
    return experiment
