"""Tasks of lm-evaluation-harness: the figures of its own model of the same weights, item by item."""

from __future__ import annotations

import json
import random
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from regraft.core.errors import RegraftError
from regraft.evidence.lm_eval import LmEvalTasks
from regraft.models.causal import CausalLM

PROSE = ["the cat sat on the mat. ", "the dog ran after the cat. ", "a catalogue of cats and dogs. "]
QUESTIONS = [
    {"q": "the cat", "c": ["sat", "ran off", "on the mat."], "a": 0},
    {"q": "the dog", "c": ["sat", "ran after the cat.", "a"], "a": 1},
    {"q": "a catalogue of cats and ", "c": ["dogs", "mat", "the"], "a": 0},
    {"q": "x", "c": ["a", "b", "c"], "a": 2},
]


def test_without_the_harness_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(RegraftError, match=r"need lm-eval\. pip install 'regraft\[eval\]'$"):
        LmEvalTasks(("hellaswag",)).measure(causal_lm())


def test_settings_that_cannot_be_meant():
    with pytest.raises(RegraftError, match="lm-eval: no task was named"):
        LmEvalTasks(())
    with pytest.raises(RegraftError, match="lm-eval: the limit must be at least 1 item, not 0"):
        LmEvalTasks(("hellaswag",), limit=0)


def causal_lm(*, bos=False, context=64):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<eos>", "<bos>"]
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(PROSE * 5, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", bos_token="<bos>" if bos else None)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=290,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.4,
        bos_token_id=1,
        eos_token_id=0,
    )
    return CausalLM(LlamaForCausalLM(config).eval(), wrapped)


TASKS = {
    "tiny_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{c}}",
        "doc_to_target": "{{a}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "tiny_answer": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{c[a]}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "tiny_text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{(q + ' ' + c[1] + ' ') * 7}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "tiny_written": {
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{c[a]}}",
        "generation_kwargs": {"until": ["a", "."], "max_gen_toks": 9},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    for name, task in TASKS.items():
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
        (tmp_path / f"{name}.yaml").write_text(json.dumps({"task": name, **source, **task}))
    return str(tmp_path)


def of_the_harness(lm, name, folder):
    """The samples of the harness's own model class."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    # Its cache of logits takes windows of repeated text for one another (0.4.13).
    reader = HFLM(pretrained=lm.module, tokenizer=lm.tokenizer, batch_size=3, logits_cache=False)
    manager = TaskManager(include_path=folder, include_defaults=False)
    found = lm_eval.simple_evaluate(model=reader, tasks=[name], task_manager=manager, bootstrap_iters=0)
    return found["samples"][name]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
class TestAgainstTheHarness:
    def test_multiple_choice(self, tasks, bos):
        lm = causal_lm(bos=bos)
        theirs = of_the_harness(lm, "tiny_choice", tasks)
        for metric in ("acc", "acc_norm"):
            (ours,) = LmEvalTasks(("tiny_choice",), metric=metric, folder=tasks).measure(lm).values()
            assert ours.values.tolist() == [sample[metric] for sample in theirs]
            assert (ours.suite, ours.unit, ours.lower_is_better) == ("tiny_choice", "correct", False)
        ours = LmEvalTasks(("tiny_choice",), folder=tasks).measure(lm, batch_tokens=1)["tiny_choice"]
        leads = [[response[0][0] for response in sample["resps"]] for sample in theirs]
        answers = [row["a"] for row in QUESTIONS]
        margins = [each[a] - max(each[:a] + each[a + 1 :]) for each, a in zip(leads, answers, strict=True)]
        np.testing.assert_allclose(ours.continuous, margins, atol=1e-4)
        assert ours.texts[0] == "the cat"

    def test_loglikelihood(self, tasks, bos):
        lm = causal_lm(bos=bos)
        theirs = of_the_harness(lm, "tiny_answer", tasks)
        (ours,) = LmEvalTasks(("tiny_answer",), metric="acc", folder=tasks).measure(lm).values()
        assert ours.values.tolist() == [sample["acc"] for sample in theirs]
        np.testing.assert_allclose(ours.continuous, [sample["resps"][0][0][0] for sample in theirs], atol=1e-4)

    def test_rolling_loglikelihood_past_the_context(self, tasks, bos):
        lm = causal_lm(bos=bos, context=16)
        theirs = of_the_harness(lm, "tiny_text", tasks)
        pairs = np.array([sample["bits_per_byte"] for sample in theirs])
        (ours,) = LmEvalTasks(("tiny_text",), metric="bits_per_byte", folder=tasks).measure(lm).values()
        np.testing.assert_allclose(ours.values, -pairs[:, 0] / pairs[:, 1], atol=1e-4)
        assert ours.weights.tolist() == pairs[:, 1].tolist()
        assert (ours.unit, ours.lower_is_better, ours.continuous) == ("nats/byte", True, None)
        (words,) = LmEvalTasks(("tiny_text",), folder=tasks).measure(lm).values()
        assert words.unit == "nats/word"

    def test_generation_at_every_batch_size(self, tasks, bos):
        lm = causal_lm(bos=bos)
        theirs = of_the_harness(lm, "tiny_written", tasks)
        written = [sample["resps"][0][0] for sample in theirs]
        assert len({len(text) for text in written}) > 1
        for batch in (1, 40, None):
            seen = generated(lm, tasks, batch)
            assert seen == written


def generated(lm, folder, batch):
    from lm_eval.api.instance import Instance

    from regraft.evidence.lm_eval import _language_model

    asked = TASKS["tiny_written"]["generation_kwargs"]
    requests = [Instance("generate_until", {}, (row["q"], dict(asked)), 0) for row in QUESTIONS]
    return _language_model(lm, batch).generate_until(requests)


@pytest.mark.filterwarnings("default")
def test_tasks_are_limited_and_leave_no_trace(tasks):
    lm = causal_lm()
    lm.module.train()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    dice = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    suites = LmEvalTasks(("tiny_choice", "tiny_written"), limit=2, folder=tasks)
    readings = suites.measure(lm)
    assert dice == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert lm.module.training
    assert {name: len(reading) for name, reading in readings.items()} == {"tiny_choice": 2, "tiny_written": 2}
    again = suites.measure(causal_lm())
    assert [r.fingerprint for r in again.values()] == [r.fingerprint for r in readings.values()]
    longer = LmEvalTasks(("tiny_choice",), limit=3, folder=tasks).measure(lm)["tiny_choice"]
    assert longer.fingerprint != readings["tiny_choice"].fingerprint
    assert longer.ids[:2] == readings["tiny_choice"].ids


@pytest.mark.filterwarnings("default")
def test_what_the_harness_cannot_do_is_one_line(tasks):
    lm = causal_lm()
    with pytest.raises(RegraftError, match="lm-eval: no task 'tiny_choise'; did you mean 'tiny_choice'"):
        LmEvalTasks(("tiny_choise",), folder=tasks).measure(lm)
    with pytest.raises(RegraftError, match=r"task tiny_choice has no metric f1\. It has acc, acc_norm"):
        LmEvalTasks(("tiny_choice",), metric="f1", folder=tasks).measure(lm)
    with pytest.raises(RegraftError, match="a task writes up to 9 tokens, the model's context is 8"):
        LmEvalTasks(("tiny_written",), folder=tasks).measure(causal_lm(context=8))
    with pytest.raises(RegraftError, match=r"lm-eval tiny_choice: cannot be run: \w+: ") as caught:
        LmEvalTasks(("tiny_choice",), folder=tasks, chat=True).measure(lm)
    assert "\n" not in str(caught.value)
    lm.tokenizer = None
    with pytest.raises(RegraftError, match="the model has no tokenizer"):
        LmEvalTasks(("tiny_choice",), folder=tasks).measure(lm)


@pytest.mark.filterwarnings("default")
def test_patterns_and_chat_templates(tasks):
    lm = causal_lm()
    lm.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} cat {% endfor %}"
    plain = LmEvalTasks(("tiny_cho*",), folder=tasks).measure(lm)["tiny_choice"]
    chat = LmEvalTasks(("tiny_cho*",), folder=tasks, chat=True).measure(lm)["tiny_choice"]
    assert chat.texts[0] == "the cat cat"
    assert chat.fingerprint != plain.fingerprint
    assert (chat.continuous != plain.continuous).any()
