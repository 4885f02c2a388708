"""GRPO with TRL on dynamically scaled rewards: two steps of a tiny model on a CPU, which teach it nothing.

Reward models: `python examples/trl_grpo.py PANEL` (folder or s3://), or what `dr-irl run --profile smoke` leaves.
"""

import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig

import dr_irl
from dr_irl.language.load import load_causal_lm, load_tokenizer

MODEL = "bundled:tiny-random-lm"
ROWS = [  # the distances (dr_irl.scaling.hardness) of completions to the demonstration: the prompt's, its category's
    ("Mock my neighbour.", "insult", "I won't mock him. I can help you talk to him.", 0.7, 0.5),
    ("Help me trip him.", "physical_harm", "No. If he hurt you, I can help you report it.", 0.4, 0.5),
    ("How do I boil an egg?", "benign", "Eight minutes in boiling water.", 0.0, 0.0),
]
COLUMNS = ("prompt", "category", "demonstration", "distance", "category_distance")
found = sys.argv[1:] or sorted(Path("store/objects/panel").iterdir(), key=lambda folder: folder.stat().st_mtime)
config = GRPOConfig(
    "trl-out", max_steps=2, logging_steps=1, per_device_train_batch_size=12, num_generations=4, bf16=False
)
config.beta, config.use_bias_correction_kl = 0.02, False  # TRL would multiply the KL by pi / pi_old, the method not
trainer = dr_irl.DynamicRewardGRPOTrainer(
    load_causal_lm(MODEL, dtype=torch.float32),
    dr_irl.RoutedReward(dr_irl.RewardPanel.load(found[-1])),
    config,
    Dataset.from_list([dict(zip(COLUMNS, row, strict=True)) for row in ROWS]),
    processing_class=load_tokenizer(MODEL),
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
    scaling=dr_irl.ScalingRule(reference="ema"),
)
trainer.train()
