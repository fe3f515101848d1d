"""Instructions and conversations: what decoders are tuned on."""

from __future__ import annotations

from claf2 import Task, register_task
from claf2.metrics.language_model import CausalLanguageModel
from claf2.readers import Instructions

register_task(
    Task(
        name="alpaca",
        language="en",
        head="instruct",
        reader=Instructions(),
        metrics=(CausalLanguageModel(),),
        files={"train": "instruction/alpaca_data.json"},
        source="https://github.com/tatsu-lab/stanford_alpaca",
        licence="CC BY-NC 4.0",
        notes=("There is no validation file: set data_reader.valid_fraction.",),
    )
)

register_task(
    Task(
        name="kullm",
        language="ko",
        head="instruct",
        reader=Instructions(),
        metrics=(CausalLanguageModel(),),
        files={"train": "instruction/kullm-v2.jsonl", "valid": "instruction/user_oriented_instructions_eval.jsonl"},
        source="https://github.com/nlpai-lab/KULLM",
        licence="Apache-2.0",
        notes=("The outputs of the validation file are in English, because only its instructions were translated.",),
    )
)

register_task(
    Task(
        name="korean_chat",
        language="ko",
        head="instruct",
        reader=Instructions(),
        metrics=(CausalLanguageModel(),),
        files={"train": "instruction/ChatbotData.csv"},
        source="https://github.com/songys/Chatbot_data",
        licence="MIT",
        notes=("There is no validation file: set data_reader.valid_fraction.",),
    )
)
