"""Variants of a recipe: named changes, exports and grids, held against the recipe itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import claf2
from claf2.benchmarking import comparison
from claf2.benchmarking.aggregation import group_by_row, summarize_bench, summarize_cells
from claf2.benchmarking.backends import SerialBackend
from claf2.benchmarking.cells import Cell, CellResult, cell_dir, list_cells, read_cell, row_key
from claf2.benchmarking.exported_cells import check_export_words
from claf2.benchmarking.matrix import BenchModel, plan_cells, run_bench
from claf2.benchmarking.summary import Costs, format_costs, format_summary, read_summary
from claf2.benchmarking.variants import Variant, expand_variants, read_variants, takes_list
from claf2.board.cell_record import CellFields
from claf2.board.pages.suite import make_suite_page
from claf2.board.pages.variants import make_variant_table
from claf2.cli.bench import bench_run
from claf2.config.source import Override
from claf2.errors import ConfigError, RunError
from claf2.metrics import Prediction
from claf2.task import suites, tasks

SHORT = ["--data_reader.source", "sample", "--num_steps", "2"]


def is_scalar_only(fields: Mapping[str, Any], key: str, value: Any) -> bool:
    return key == "keep"


def test_full_comes_first_and_a_list_is_a_grid_where_the_field_takes_none() -> None:
    entries = {
        "lr": {"learning_rate": [1e-5, 3e-5], "batch_size": [8, 16], "keep": [0, 5]},
        "int8": {"export": {"int8": "dynamic"}},
        "full": {},
        "both": {"dropout": 0.0, "export": {}},
    }
    variants = expand_variants(entries, is_scalar_only)
    assert variants[0] == Variant()
    assert [variant.name for variant in variants[1:5]] == [
        f"lr/learning_rate={rate},batch_size={size}" for rate in ("1e-05", "3e-05") for size in (8, 16)
    ]
    assert variants[1].overrides == ("--keep", "[0, 5]", "--learning_rate", "1e-05", "--batch_size", "8")
    assert variants[5] == Variant("int8", (), ("--int8", "dynamic"))
    assert variants[6] == Variant("both", ("--dropout", "0.0"), ())
    is_value = takes_list(["glue/rte"], "bert", [], [])
    assert not is_value({}, "learning_rate", [1e-5, 3e-5])


def test_a_list_is_a_value_if_the_section_that_the_variant_chooses_takes_one() -> None:
    entries = {"lora": {"model.peft.name": "lora", "lora.targets": ["query", "key"], "lora.r": [4, 8]}}
    variants = expand_variants(entries, takes_list(["glue/rte"], "bert", [], []))
    assert [variant.name for variant in variants[1:]] == ["lora/r=4", "lora/r=8"]
    assert all('["query", "key"]' in variant.overrides for variant in variants[1:])


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"a/b": {}}, "variant 'a/b': a name has up to 40 letters"),
        ({"": {}}, "variant ''"),
        ({"a": 3}, "variant 'a': expected an object such as"),
        ({"a": {"export": "int8"}}, "variant 'a': expected an object"),
        ({"full": {"learning_rate": 1}}, "variant 'full' is the recipe itself"),
        ({"a": {}}, "variants 'full' and 'a' are the same: remove one"),
        ({"a": {"x": 1}, "b": {"x": 1}}, "variants 'a' and 'b' are the same"),
        ({"a": {"x": []}}, "a grid of 0 variants"),
        ({"a": {"x": list(range(101))}}, "a grid of 101 variants"),
    ],
)
def test_what_is_no_variant_is_named(entries: dict[str, Any], problem: str) -> None:
    with pytest.raises(RunError, match=problem):
        expand_variants(entries, is_scalar_only)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none\.json: there is no such file; give a JSON file of variants"):
        read_variants(tmp_path / "none.json")
    with pytest.raises(RunError, match=r"export: there is no argument 'int9'; did you mean 'int8'"):
        check_export_words(["--int9", "dynamic"])
    check_export_words([*Override.of_value("layers", [0, 2]).words(), "--ffn_width", "64"])


def test_a_wrong_field_is_named_with_its_variant(tmp_path: Path) -> None:
    cells = plan_cells(
        suites.get("glue"), [BenchModel("m", "m")], tasks=["cola"], seeds=[1], recipe="bert",
        variants=expand_variants({"slow": {"learnin_rate": 1e-5}}, lambda fields, key, value: True),
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"from variant slow\); did you mean"):
        run_bench(cells, tmp_path, backend=SerialBackend())


def test_cells_of_earlier_versions_stay_what_they_were(tmp_path: Path) -> None:
    old = {
        "suite": "glue", "model": "m", "weights": "m", "task": "cola", "seed": 1, "recipe": "bert",
        "base_config": "glue/cola_bert", "overrides": ["--num_steps", "2"], "step": None, "plugins": [],
    }  # fmt: skip
    (tmp_path / "m/c").mkdir(parents=True)
    (tmp_path / "m/c/cell.json").write_text(json.dumps({**old, "failure": ""}))
    cell = read_cell(tmp_path / "m/c").cell
    assert (cell.variant, cell.export) == ("", None)
    assert row_key(cell) == ("m", None, "m", "bert", frozenset({("num_steps", "2")}))
    fields = CellFields.model_validate_json(json.dumps(old))
    assert fields.model_dump(mode="json") == old, "the digests of a board's records"
    exported = CellFields.model_validate_json(json.dumps({**old, "variant": "int8", "export": []}))
    assert exported.to_cell() == replace(cell, variant="int8", export=())
    assert row_key(exported.to_cell()) != row_key(cell)
    assert json.loads(exported.model_dump_json())["export"] == []


def test_an_export_is_planned_with_the_run_that_it_is_made_of(tmp_path: Path) -> None:
    variants = [Variant(), Variant("int8", (), ("--int8", "dynamic")), Variant("six", ("--num_steps", "3"), ())]
    cells = plan_cells(
        suites.get("glue"), [BenchModel("m", "m")], tasks=["cola"], seeds=[1], recipe="bert", overrides=SHORT,
        variants=variants,
    )  # fmt: skip
    assert [(cell.variant, cell.export) for cell in cells] == [
        ("", None), ("int8", ("--int8", "dynamic")), ("six (before export)", None), ("six", ()),
    ]  # fmt: skip
    folders = [cell_dir(tmp_path, cell).relative_to(tmp_path) for cell in cells]
    assert [folder.parts[0].partition("-")[0] for folder in folders] == ["m", "m@int8", "m@six_before_export_", "m@six"]
    assert len({folder.name.rpartition("-")[2] for folder in folders}) == 4
    with pytest.raises(RunError, match="--seed_num is set for each cell"):
        plan_cells(
            suites.get("glue"), [BenchModel("m", "m")], seeds=[1], recipe="bert",
            variants=[Variant("x", ("--seed_num", "3"))],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class FakeCell:
    """A cell of SST-2 with made-up predictions."""

    cell: Cell
    answers: Sequence[Prediction]
    provenance: Mapping[str, object] | None = None
    failure: str = ""
    scores: Mapping[str, float | None] = field(init=False)

    def __post_init__(self) -> None:
        right = sum(answer.gold == answer.prediction for answer in self.answers)
        object.__setattr__(self, "scores", {"valid/accuracy": 100 * right / len(self.answers)})

    @property
    def source(self) -> str:
        return repr(self.cell)

    @property
    def key(self) -> Hashable:
        return self.cell

    def predictions(self, split: str) -> list[Prediction]:
        return list(self.answers)


def fake_cells(
    variant: str, right: float, *, seeds: Sequence[int] = (1, 2, 3), words: tuple[str, ...] = (),
    export: tuple[str, ...] | None = None, flips: int = 0, n: int = 900, stream: str = "",
) -> list[FakeCell]:  # fmt: skip
    """Return the cells of a variant that is right with some probability, by chance and by how hard an example is."""
    labels, cells = tasks.get("sst").labels, []
    for seed in seeds:
        chance = random.Random(f"{stream} {seed}")
        answers = []
        for row in range(n):
            gold = labels[row % 2]
            is_right = chance.random() < right
            is_right ^= row < flips
            answers.append(Prediction(str(row), gold, gold if is_right else labels[1 - row % 2]))
        cell = Cell("glue", "m", "m", "sst", seed, "bert", "glue/sst_bert", words, None, (), variant, export)
        record = {"trained_parameters": 1000, "weight_bytes": 2_000_000, "train_seconds": 10.0 * seed}
        cells.append(FakeCell(cell, answers, {**record, "latency": {"p50": 1.5, "p99": 2.5}}))
    return cells


def test_an_export_is_compared_with_the_runs_that_it_was_made_of() -> None:
    cells = [
        *fake_cells("", 0.9),
        *fake_cells("int8", 0.9, export=("--int8", "dynamic"), flips=2),
        *fake_cells("again", 0.9, words=("--x", "1"), stream="again"),
        *fake_cells("damaged", 0.6, words=("--x", "2")),
    ]
    summary = summarize_cells(suites.get("glue"), cells)
    delta = {row.variant_name: row.cells[0].to_full for row in summary.rows if row.cells[0]}
    assert delta[""] is None
    assert delta["int8"].paired
    assert delta["int8"].verdict == "non-inferior"
    assert not delta["again"].paired
    assert delta["again"].verdict == "not shown", "other trainings vary by more than a point"
    assert delta["damaged"].verdict == "inferior"
    wide = summarize_cells(suites.get("glue"), cells, margin=20.0)
    assert {row.cells[0].to_full.verdict for row in wide.rows[1:3] if row.cells[0] and row.cells[0].to_full} == {
        "non-inferior"
    }
    assert read_summary(asdict(summary)) == summary
    text = format_summary(summary)
    assert "| m, int8 | " in text
    assert ") non-inferior | 1,000 | 2.0 | 2.0 | 20.0 | – | 1.5 | 2.5 |" in text
    page = make_suite_page(summary)
    assert page.variants == make_variant_table(summary)
    assert page.variants is not None
    assert page.variants.rows[0].name == "m · full"
    assert make_variant_table(replace(summary, rows=summary.rows[:1])) is None


def test_a_variant_is_not_compared_with_its_own_overrides_under_another_name() -> None:
    words = ("--learning_rate", "1e-3")
    cells = [*fake_cells("", 0.9), *fake_cells("", 0.6, words=words), *fake_cells("rate", 0.6, words=words)]
    summary = summarize_cells(suites.get("glue"), cells)
    delta = {row.variant_name: row.cells[0].to_full for row in summary.rows if row.cells[0]}
    assert delta["rate"].verdict == "inferior"
    (*_, alone) = summarize_cells(suites.get("glue"), cells[3:]).rows
    assert alone.cells[0].to_full.value == 0


def test_p_values_of_a_table_are_corrected_for_all_pairs_of_its_rows() -> None:
    """The best row is chosen by the same scores: with four rows, the smallest of three p values is one of six."""

    def p_of_worst(*others: str) -> float:
        cells = [*fake_cells("", 0.90), *fake_cells("", 0.86, words=("--x", "1"), stream="worst")]
        for stream in others:
            cells += fake_cells("", 0.89, words=("--x", stream), stream=stream)
        rows = summarize_cells(suites.get("glue"), cells).rows
        worst = min((row.cells[0] for row in rows if row.cells[0]), key=lambda cell: cell.mean or 0.0)
        assert worst.delta is not None
        return worst.delta.p

    assert 0 < p_of_worst() < 0.1
    assert p_of_worst("2", "3") == pytest.approx(6 * p_of_worst())


def test_a_verdict_from_one_seed_says_so() -> None:
    cells = [*fake_cells("", 0.9, seeds=[1]), *fake_cells("x", 0.9, seeds=[1], words=("--x", "1"))]
    verdicts = {}
    for export in (None, ()):
        cells[1] = FakeCell(replace(cells[1].cell, export=export, overrides=("--x", "1") if export is None else ()),
                            cells[0].answers)  # fmt: skip
        (row,) = (row for row in summarize_cells(suites.get("glue"), cells).rows if row.variant_name)
        assert row.cells[0] is not None
        assert row.cells[0].to_full is not None
        verdicts[export] = row.cells[0].to_full.verdict
    assert verdicts == {None: "non-inferior, of these runs only", (): "non-inferior"}


def test_a_variant_that_learned_nothing_has_no_verdict() -> None:
    cells = [*fake_cells("", 0.9), *fake_cells("x", 0.9, words=("--x", "1"))]
    constant = [replace(answer, prediction=tasks.get("sst").labels[0]) for answer in cells[-1].answers]
    cells[-1] = FakeCell(cells[-1].cell, constant, {})
    (row,) = (row for row in summarize_cells(suites.get("glue"), cells).rows if row.variant_name)
    assert row.cells[0] is not None
    assert row.cells[0].to_full is not None
    assert row.cells[0].to_full.verdict == "collapsed"


def test_the_optimism_of_the_best_of_a_grid_is_stated() -> None:
    names = [f"lr/learning_rate={number}" for number in range(8)]
    equal = [
        cell
        for number, name in enumerate(names)
        for cell in fake_cells(name, 0.8, seeds=[1], words=("--lr", str(number)), n=300, stream=name)
    ]
    (choice,) = summarize_cells(suites.get("glue"), [*fake_cells("", 0.8), *equal]).grids
    assert (choice.grid, choice.variants) == ("lr", 8)
    scores = {cell.cell.variant: cell.scores["valid/accuracy"] for cell in equal}
    assert choice.score == max(filter(None, scores.values()))
    assert choice.best == max(scores, key=lambda name: scores[name] or 0.0)
    assert choice.optimism > 0.5, "the best of eight equal variants is good by chance"
    one_is_better = [
        *fake_cells("lr/a", 0.6, seeds=[1], words=("--lr", "1")),
        *fake_cells("lr/b", 0.9, seeds=[1], words=("--lr", "2")),
    ]
    (choice,) = summarize_cells(suites.get("glue"), one_is_better).grids
    assert choice.best == "lr/b"
    assert abs(choice.optimism) < 0.01


def test_each_recipe_has_a_grid_of_its_own_without_the_runs_that_are_exported() -> None:
    cells = []
    for steps in ("2", "4"):
        words = ("--num_steps", steps)
        cells += fake_cells("", 0.8, words=words)
        for rate in "12":
            name, more = f"lr/a={rate}", (*words, "--lr", rate)
            cells += fake_cells(name, 0.8, seeds=[1], words=more, export=(), stream=f"{steps} {rate}")
            cells += fake_cells(f"{name} (before export)", 0.8, seeds=[1], words=more, stream=f"{steps} {rate}")
    choices = summarize_cells(suites.get("glue"), cells).grids
    assert [(choice.grid, choice.variants) for choice in choices] == [("lr", 2), ("lr", 2)]
    assert choices[0].score != choices[1].score


def test_a_grid_may_be_of_a_task_whose_gold_answers_are_lists() -> None:
    tags, wrong = ["B-PS", "I-PS", "O"], ["O", "O", "O"]
    cells = []
    for name, right in {"": 50, "lr/a": 50, "lr/b": 90}.items():
        answers = [
            Prediction(str(row), tags, tags if row < right else wrong, details={"tokens": ["김", "철", "수"]})
            for row in range(100)
        ]
        words = ("--lr", name) if name else ()
        cell = Cell("klue", "m", "m", "klue_ner", 1, "bert", "klue/ner_bert", words, None, (), name, None)
        cells.append(FakeCell(cell, answers, {}))
        object.__setattr__(cells[-1], "scores", {"valid/entity_macro_f1": float(right)})
    (choice,) = summarize_cells(suites.get("klue"), cells).grids
    assert (choice.grid, choice.best, choice.variants) == ("lr", "lr/b", 2)


def test_variants_are_trained_compared_and_resumed(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "variants.json").write_text(json.dumps({"rate": {"learning_rate": [1e-4, 1e-3]}}))
    words = [
        "--suite",
        "glue",
        "--models",
        model_folder(),
        "--tasks",
        "cola",
        "--seeds",
        "1-2",
        "--out",
        tmp_path / "b",
    ]
    words += ["--variants", tmp_path / "variants.json", "--no-keep", *SHORT]
    done = CliRunner().invoke(bench_run, [str(word) for word in words], standalone_mode=False)
    assert done.exception is None
    assert done.return_value == 0
    assert "| optimism |" in done.stdout
    summary = summarize_bench(tmp_path / "b")
    assert [row.variant_name for row in summary.rows] == ["", "rate/learning_rate=0.0001", "rate/learning_rate=0.001"]
    assert all(row.costs.trained_parameters and row.costs.megabytes and row.costs.seconds for row in summary.rows)
    stamps = {cell.folder: (cell.folder / "metrics.json").stat().st_mtime_ns for cell in list_cells(tmp_path / "b")}
    CliRunner().invoke(bench_run, [str(word) for word in words], standalone_mode=False)
    assert {folder: (folder / "metrics.json").stat().st_mtime_ns for folder in stamps} == stamps
    full, first, _ = sorted({folder.parent for folder in stamps}, key=lambda folder: ("@" in folder.name, folder.name))
    compared = comparison.compare_models(full, first)
    assert not compared.forced
    assert compared.variants is not None
    assert compared.variants[0] == "full"
    assert any("learning_rate" in line for line in compared.differences)
    done = CliRunner().invoke(bench_run, [str(word) for word in [*words, "--latency"]])
    assert "--latency needs the models: leave out --no-keep" in done.output


@pytest.mark.slow
def test_exports_are_cells_of_a_bench(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

    def run(**settings: Any) -> Any:
        return claf2.bench(
            "jglue", "scratch", tasks=["jnli"], seeds=[1, 2], out=tmp_path, sample=True, num_steps=3, **settings
        )

    variants = {"onnx": {"export": {}}, "long": {"num_steps": 4, "export": {}}}
    summary = run(variants=variants, latency=True)
    rows = {row.variant_name: row for row in summary.rows}
    assert set(rows) == {"", "onnx", "long", "long (before export)"}
    assert all(row.costs.p50 and row.costs.p99 for row in summary.rows)
    assert rows["onnx"].cells[0].to_full.paired
    assert rows["onnx"].cells[0].values == rows[""].cells[0].values
    assert not rows["long"].cells[0].to_full.paired
    exported = [cell for cell in list_cells(tmp_path) if cell.cell.export is not None]
    assert all((cell.folder / "export/model.onnx").is_file() for cell in exported)
    stamps = {cell.folder: (cell.folder / "metrics.json").stat().st_mtime_ns for cell in list_cells(tmp_path)}
    run(variants=variants)
    assert {folder: (folder / "metrics.json").stat().st_mtime_ns for folder in stamps} == stamps
    (full,) = {cell.folder.parent for cell in list_cells(tmp_path) if not cell.cell.variant}
    compared = comparison.compare_models(full, full.with_name(f"{full.name}@onnx"))
    assert compared.variants == ("full", "onnx")


def test_rows_of_a_grid_are_in_the_order_of_its_numbers() -> None:
    values = ["256", "16", "1e-05", "word", "64", "0.0001"]
    cells = [
        Cell("glue", "m", "m", "rte", 1, "bert", "glue/rte_bert", ("--shots", value), variant=f"few/shots={value}")
        for value in values
    ]
    groups = group_by_row([CellResult(cell, Path(cell.variant), {}) for cell in cells])
    assert [group[0].cell.overrides[1] for group in groups] == ["1e-05", "0.0001", "16", "64", "256", "word"]


def test_costs_have_digits_that_tell_them_apart() -> None:
    costs = Costs(trained_parameters=770.0, stored=0.0031, megabytes=0.22, seconds=89.34, memory=3502.6)
    assert format_costs(costs) == ["770", "0.22", "0.0031", "89.3", "3,503", "–", "–"]
