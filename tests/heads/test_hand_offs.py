"""What other tools do with the folder of a decoder: docs/decoders.md names them."""

from __future__ import annotations

from pathlib import Path

import pytest
from language_models import save_language_model
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.mark.filterwarnings("ignore")  # of the libraries: they call each other by old names
def test_trl_tunes_a_decoder_by_preferences(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="pip install 'claf2[harness]'")
    from datasets import Dataset

    best = save_language_model("llama", tmp_path / "best")
    tokenizer = AutoTokenizer.from_pretrained(best)
    tokenizer.eos_token = tokenizer.sep_token
    pairs = [{"prompt": "the film was ", "chosen": "good", "rejected": "bad"}] * 4
    settings = trl.DPOConfig(
        output_dir=str(tmp_path / "tuned"), max_steps=3, per_device_train_batch_size=4, learning_rate=1e-2,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    trainer = trl.DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(best), args=settings,
        train_dataset=Dataset.from_list(pairs), processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    trainer.save_model(str(tmp_path / "tuned"))
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "tuned")).__name__ == "LlamaForCausalLM"
