"""Fine-tunes a model on real data, and prints the scores of claf2 alone or beside those of transformers.Trainer:
``python benchmarks/results.py --model FOLDER --data_dir DATA --tasks klue_nli,nsmc --out FILE``.

Every task follows its own BaseConfig, except for what ``TASKS`` and the command line change. With ``--trainer`` the
Trainer fine-tunes the same weights on the same features by the same recipe, the two systems next to each other, and
both are evaluated by claf2 after the last step. A finished run is one line of JSON in the file, and is not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

KLUE, JGLUE = "klue_benchmark", "jglue/datasets"
TASKS: dict[str, tuple[str, dict[str, str]]] = {
    "mrpc": ("glue/mrpc_bert", {}),
    "stsb": ("glue/stsb_bert", {}),
    "rte": ("glue/rte_bert", {"valid_fraction": "0.1"}),
    "cola": ("glue/cola_bert", {}),
    "sst": ("glue/sst_bert", {}),
    "qqp": ("glue/qqp_bert", {}),
    "mnli": ("glue/mnli_bert", {}),
    "qnli": ("glue/qnli_bert", {}),
    "wnut17": ("wnut17/ner_bert", {}),
    "squad": ("squad/v1_bert", {"train_file_path": "squad/dev-v1.1_answerable_subset.json", "valid_fraction": "0.1"}),
    "ynat": (
        "klue/ynat_bert",
        {
            "train_file_path": f"{KLUE}/ynat-v1.1/ynat_dacon_train.json.gz",
            "valid_file_path": f"{KLUE}/ynat-v1.1/ynat_dacon_dev.json",
        },
    ),
    "klue_nli": (
        "klue/nli_bert",
        {
            "train_file_path": f"{KLUE}/klue-nli-v1.1/klue-nli-v1.1_train.json.gz",
            "valid_file_path": f"{KLUE}/klue-nli-v1.1/klue-nli-v1.1_dev_first_half.json",
        },
    ),
    "klue_sts": (
        "klue/sts_bert",
        {"train_file_path": f"{KLUE}/klue-sts-v1.1/klue-sts-v1.1_dev.json", "valid_fraction": "0.2"},
    ),
    "klue_ner": (
        "klue/ner_bert",
        {"train_file_path": f"{KLUE}/klue-ner-v1.1/klue-ner-v1.1_dev.tsv", "valid_fraction": "0.2"},
    ),
    "klue_re": (
        "klue/re_bert",
        {"train_file_path": f"{KLUE}/klue-re-v1.1/klue-re-v1.1_train_sample_3247.json", "valid_fraction": "0.2"},
    ),
    "klue_dp": (
        "klue/dp_bert",
        {"train_file_path": f"{KLUE}/klue-dp-v1.1/klue-dp-v1.1_dev.tsv", "valid_fraction": "0.2"},
    ),
    "korquad": (
        "klue/korquad_bert",
        {"train_file_path": "korquad/KorQuAD_v1.0_dev_first_half.json", "valid_fraction": "0.1"},
    ),
    "nsmc": ("klue/nsmc_bert", {}),
    "question_pair": ("klue/question_pair_bert", {}),
    "korsts": ("klue/korsts_bert", {}),
    "paws_ko": (
        "klue/paws_ko_bert",
        {"train_file_path": "pawsx/ko/dev_2k.tsv", "valid_file_path": "pawsx/ko/test_2k.tsv"},
    ),
    "3i4k": ("klue/3i4k_bert", {}),
    "parakqc": ("klue/parakqc_bert", {"valid_fraction": "0.1"}),
    "korean_hate_speech": ("klue/korean_hate_speech_bert", {}),
    "korean_hate_speech_bias": ("klue/korean_hate_speech_bias_bert", {}),
    "naver_ner": ("klue/naver_ner_bert", {"train_file_path": "naver_ner/test.tsv", "valid_fraction": "0.2"}),
    "jcola": ("jglue/jcola_bert", {}),
    "jsts": ("jglue/jsts_bert", {"valid_file_path": f"{JGLUE}/jsts-v1.3/test-v1.3.json"}),
    "jnli": (
        "jglue/jnli_bert",
        {
            "train_file_path": f"{JGLUE}/jnli-v1.3/valid-v1.3.json",
            "valid_file_path": f"{JGLUE}/jnli-v1.3/test-v1.3.json",
        },
    ),
    "jsquad": (
        "jglue/jsquad_bert",
        {"train_file_path": f"{JGLUE}/jsquad-v1.3/valid-v1.3.json", "valid_fraction": "0.1"},
    ),
    "jcommonsenseqa": ("jglue/jcommonsenseqa_bert", {}),
}  # fmt: skip
"""The BaseConfig of each task, and its files where the published ones are not all available."""

ALWAYS = ["--eval_and_save_step_count", "1000000", "--verbose_step_count", "1000000"]
"""Evaluate after the last step only, as the Trainer does here."""


def with_claf2(experiment: Any) -> tuple[dict[str, float | None], float]:
    """Train with claf2, and return its scores and the seconds of training."""
    from claf2.runs.train import train

    folder = Path(experiment.trainer_config.log_dir)
    report = train(experiment, overwrite=True, needs_last=False)
    for name in ("best", "last"):  # the weights of all runs would fill a disk
        shutil.rmtree(folder / name, ignore_errors=True)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return dict(report.tasks[experiment.only_task.task.name].scores), record["train_seconds"]


def with_trainer(experiment: Any, model: str) -> tuple[dict[str, float | None], float]:
    """Train with transformers.Trainer on the same features, and return the same scores and the seconds of training."""
    import transformers
    from trainer import encode, trainer, wrap

    from claf2.runs.locate import locate_splits
    from claf2.runs.resolve import resolve_weights

    ((task, splits),) = locate_splits(experiment).items()
    run = resolve_weights(experiment, splits["train"].texts)
    transformers.set_seed(experiment.seed)
    made = trainer(
        experiment,
        model,
        Path(experiment.trainer_config.log_dir),
        train=encode(run, run.features(task, splits["train"])),
        use_cpu=True,
        bf16=experiment.runtime.precision == "bf16",
        optim="adamw_torch_fused",
        max_steps=experiment.trainer_config.num_steps or -1,
    )
    seconds = made.train().metrics["train_runtime"]
    report = run.evaluate_sets(wrap(run, made.model), run.evaluation_sets({task: {"valid": splits["valid"]}}))
    return dict(report.tasks[task].scores), seconds


def main() -> None:
    """Make the runs that are missing, and print the table."""
    from claf2 import config

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--trainer", action="store_true", help="also with transformers.Trainer")
    parser.add_argument("words", nargs="*", help="overrides of all tasks, after --")
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    done = read_lines(given.out)
    systems = ("claf2", "trainer") if given.trainer else ("claf2",)
    # Seed by seed: what is there after an interruption covers all tasks.
    for seed in map(int, given.seeds.split(",")):
        for task in given.tasks.split(","):
            base_config, fields = TASKS[task]
            own = [word for name, value in fields.items() for word in (f"--{name}", value)]
            for system in systems:
                if any((line["task"], line["seed"], line["system"]) == (task, seed, system) for line in done):
                    continue
                folder = given.out.parent / f"{task}-{seed}-{system}"
                words = [*ALWAYS, *own, *given.words, "--pretrained_model_name", given.model, "--seed_num", str(seed)]
                words += ["--data_dir", given.data_dir, "--log_dir", str(folder)]
                experiment = config.load(base_config, words)
                started = time.monotonic()
                scores, seconds = with_claf2(experiment) if system == "claf2" else with_trainer(experiment, given.model)
                line = {"task": task, "seed": seed, "system": system, "scores": scores, "train_seconds": seconds}
                line |= {"seconds": round(time.monotonic() - started, 1), "overrides": [*own, *given.words]}
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
    print_table(read_lines(given.out), given.tasks.split(","), systems)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the finished runs."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def print_table(lines: list[dict[str, Any]], tasks: list[str], systems: tuple[str, ...]) -> None:
    """Print a row for each task: mean and standard deviation over the seeds; beside the Trainer, the difference, its
    standard error, and how many times faster claf2 trains (median, lowest and highest over the seeds)."""
    columns = ["task", "score", "seeds", *systems, "seconds"]
    columns += ["difference", "standard error", "speed"] if len(systems) > 1 else []
    print("| " + " | ".join(columns) + " |\n" + "| --- " * len(columns) + "|")
    for task in tasks:
        runs = {
            system: sorted(
                (line for line in lines if line["task"] == task and line["system"] == system),
                key=lambda line: line["seed"],
            )
            for system in systems
        }
        if not all(runs.values()):
            continue
        key = next(iter(runs["claf2"][0]["scores"]))
        values = {system: [line["scores"][key] or 0.0 for line in group] for system, group in runs.items()}
        cells = [task, key, str(len(values["claf2"])), *(_mean(values[system]) for system in systems)]
        cells.append(f"{statistics.median(line['train_seconds'] for line in runs['claf2']):.0f}")
        if len(systems) > 1:
            error = math.sqrt(sum(_variance(group) / len(group) for group in values.values()))
            ratios = [
                theirs["train_seconds"] / ours["train_seconds"]
                for ours, theirs in zip(runs["claf2"], runs["trainer"], strict=False)
            ]
            difference = statistics.fmean(values["claf2"]) - statistics.fmean(values["trainer"])
            cells += [f"{difference:+.1f}", f"{error:.1f}"]
            cells.append(f"{statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})")
        print("| " + " | ".join(cells) + " |")


def _variance(values: list[float]) -> float:
    return statistics.variance(values) if len(values) > 1 else 0.0


def _mean(values: list[float]) -> str:
    return f"{statistics.fmean(values):.1f} ± {math.sqrt(_variance(values)):.1f}"


if __name__ == "__main__":
    main()
