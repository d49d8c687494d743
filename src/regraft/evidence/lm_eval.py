"""Tasks of lm-evaluation-harness as suites (optional: `pip install 'regraft[eval]'`).

The harness makes the prompts and judges the answers; the model reads them through the scoring of regraft's own suites.
Requests are tokenised as the harness's own `hf` model does, so that figures agree with published ones.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import torch

from regraft.core.errors import RegraftError, nearest
from regraft.evidence.items import digest, ending, one_line, trailing_specials
from regraft.evidence.readings import CORRECT, Reading
from regraft.evidence.scoring import BATCH_TOKENS, Pieces, batches, score
from regraft.models.causal import CausalLM
from regraft.numerics.evaluating import evaluating

Sample: TypeAlias = Mapping[str, Any]

MAX_NEW_TOKENS = 256
"""Tokens that a task may write where it does not say how many: the harness's own default."""

_UNBOUNDED = 1 << 20
_RIGHT_OR_WRONG = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"})
_PER = {"word_perplexity": "nats/word", "byte_perplexity": "nats/byte", "bits_per_byte": "nats/byte"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LmEvalTasks:
    """Tasks of lm-evaluation-harness.

    Args:
        names: of tasks or groups of tasks, or patterns, as `lm_eval --tasks` takes them.
        limit: only the first items of each task.
        shots: solved examples before each question; None: as the task says.
        metric: what to read of each task, such as `acc_norm`; None: the first that has one number per item.
            Perplexities are read as nats per word or byte.
        chat: put prompts through the tokenizer's chat template.
        folder: a folder of task files, to take tasks from there instead of from the harness. They can run code.
    """

    names: tuple[str, ...]
    limit: int | None = None
    shots: int | None = None
    metric: str | None = None
    chat: bool = False
    folder: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names:
            raise RegraftError("no task was named", where="lm-eval")
        if self.limit is not None and self.limit < 1:
            raise RegraftError(f"the limit must be at least 1 item, not {self.limit}", where="lm-eval")

    def measure(self, model: CausalLM, *, batch_tokens: int | None = None) -> dict[str, Reading]:
        """One reading per task, by name; groups give one for each of their tasks.

        Raises RegraftError when the harness is not installed, does not know a task, or cannot run it.
        """
        harness = _harness()
        manager, tasks = self._tasks()
        reader = _language_model(model, batch_tokens)
        with _own_dice(), evaluating(model):
            try:
                results = harness.simple_evaluate(
                    model=reader,
                    tasks=tasks,
                    num_fewshot=self.shots,
                    limit=self.limit,
                    bootstrap_iters=0,
                    apply_chat_template=self.chat,
                    task_manager=manager,
                )
            except RegraftError:
                raise
            except Exception as error:
                why = f"{type(error).__name__}: {one_line(str(error))}"
                raise RegraftError(f"cannot be run: {why}", where=f"lm-eval {', '.join(self.names)}") from error
        if reader.cut:
            _log.warning("lm-eval: %d prompts were longer than the context: their beginnings were cut off", reader.cut)
        version = harness.__version__
        return {
            task: self._reading(task, samples, results, version) for task, samples in sorted(results["samples"].items())
        }

    def _tasks(self) -> tuple[Any, list[str]]:
        """The harness's index of tasks, and the names of those that are meant: patterns are resolved."""
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=self.folder, include_defaults=self.folder is None)
        for name in self.names:
            if not manager.match_tasks([name]):
                raise RegraftError(f"no task {name!r}{nearest(name, manager.all_tasks)}", where="lm-eval")
        return manager, list(manager.match_tasks(list(self.names)))

    def _reading(self, task: str, samples: Sequence[Sample], results: Mapping[str, Any], version: str) -> Reading:
        first = samples[0]
        samples = [sample for sample in samples if sample["filter"] == first["filter"]]
        metric = self._metric(task, first)
        values, weights = _values([sample[metric] for sample in samples])
        config = results["configs"][task]
        higher = metric not in _PER and results["higher_is_better"][task].get(metric) is not False
        settings = [version, task, results["versions"][task], metric, first["filter"], self.shots, self.chat]
        hashes = sorted([s["doc_hash"], s["prompt_hash"], s["target_hash"]] for s in samples)
        return Reading(
            suite=task,
            fingerprint=digest([settings, repr(config.get("generation_kwargs")), hashes]),
            unit=CORRECT if metric in _RIGHT_OR_WRONG else _PER.get(metric, metric),
            lower_is_better=not higher,
            ids=tuple(f"{s['doc_id']}-{s['doc_hash'][:16]}" for s in samples),
            values=values,
            weights=weights,
            continuous=_companion(samples) if metric == "acc" else None,
            texts=tuple(ending(str(s["arguments"][0][0])) for s in samples),
        )

    def _metric(self, task: str, sample: Sample) -> str:
        readable = [metric for metric in sample["metrics"] if _readable(metric, sample[metric])]
        chosen = self.metric or next(iter(readable), "")
        if chosen not in readable:
            raise RegraftError(
                f"task {task} has no metric {self.metric or 'with one number per item'}",
                where="lm-eval",
                do=f"It has {', '.join(readable) or 'none that can be read'}",
            )
        return chosen


class _Requests:
    """What the harness asks of a model; joined with the harness's own `TemplateLM`, which splits prompts into tokens.

    `cut` counts the prompts whose beginnings did not fit.
    """

    def __init__(self, model: CausalLM, batch_tokens: int | None) -> None:
        super().__init__()
        if model.tokenizer is None:
            raise RegraftError("the model has no tokenizer, so it cannot read the tasks", where="lm-eval")
        self.model, self.batch_tokens, self.cut = model, batch_tokens, 0
        self.tokenizer = model.tokenizer
        self.max_length = model.context or _UNBOUNDED
        self._trailing = trailing_specials(model.tokenizer)

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def tokenizer_name(self) -> str:
        return type(self.tokenizer).__name__

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        knobs = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
        return str(self.tokenizer.apply_chat_template(chat_history, tokenize=False, **knobs))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        marked = string.startswith(self.tokenizer.decode(self.prefix_token_id))
        special = not marked if add_special_tokens is None else add_special_tokens
        ids: list[int] = self.tokenizer(string, add_special_tokens=special, verbose=False)["input_ids"]
        return ids[: len(ids) - self._trailing] if special else ids

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        longest = max((len(after) for _, _, after in requests), default=0)
        if longest > self.max_length:
            raise RegraftError(
                f"an answer of {longest} tokens is longer than the model's context of {self.max_length}",
                where="lm-eval",
            )
        texts = [(before + after)[-self.max_length - 1 :] for _, before, after in requests]
        self.cut += sum(len(before) + len(after) > self.max_length + 1 for _, before, after in requests)
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        scored = np.array([len(after) for _, _, after in requests], dtype=np.int64)
        ends = sizes.cumsum()
        pieces = Pieces(
            tokens=np.fromiter(chain.from_iterable(texts), dtype=np.int64),
            counted=np.arange(sizes.sum()) >= np.repeat(ends - scored, sizes),
            starts=ends - sizes,
            lengths=sizes - 1,
        )
        scores = score(self.model, pieces, where="lm-eval", batch_tokens=self.batch_tokens, greedy=True)
        return list(zip(scores.log_prob.tolist(), scores.greedy.tolist(), strict=True))

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        windows: list[tuple[Any, list[int], list[int]]] = []
        owner: list[int] = []
        for at, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1):
                windows.append((None, *make_disjoint_window(window)))
                owner.append(at)
        each = [log_prob for log_prob, _ in self._loglikelihood_tokens(windows)]
        sums: list[float] = np.bincount(owner, each, len(requests)).tolist()
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        alike: dict[str, list[int]] = {}
        for at, request in enumerate(requests):
            alike.setdefault(json.dumps(request.args[1], sort_keys=True, default=str), []).append(at)
        texts = [""] * len(requests)
        for group in alike.values():
            until, new, options = _generation(requests[group[0]].args[1])
            if (room := self.max_length - new) < 1:
                raise RegraftError(
                    f"a task writes up to {new} tokens, the model's context is {self.max_length}", where="lm-eval"
                )
            prompts = [self.tok_encode(requests[at].args[0]) for at in group]
            self.cut += sum(len(prompt) > room for prompt in prompts)
            prompts = [prompt[-room:] or [self.prefix_token_id] for prompt in prompts]
            lengths = np.array([len(prompt) for prompt in prompts])
            order = np.argsort(-lengths, kind="stable")
            for batch in batches(order, lengths[order] + new, self.batch_tokens or BATCH_TOKENS):
                written = self._write([prompts[at] for at in batch], until, new, options)
                for at, text in zip(batch, written, strict=True):
                    texts[group[at]] = text
        return texts

    @torch.no_grad()
    def _write(self, prompts: list[list[int]], until: list[str], new: int, options: dict[str, Any]) -> list[str]:
        width = max(map(len, prompts))
        ids = torch.tensor([[self.eot_token_id] * (width - len(p)) + p for p in prompts], device=self.model.device)
        sizes = torch.tensor([len(p) for p in prompts], device=self.model.device)
        mask = torch.arange(width, device=self.model.device) >= width - sizes[:, None]
        stops = {"stop_strings": until, "tokenizer": self.tokenizer} if until else {}
        module: Any = self.model.module
        out = module.generate(
            ids, attention_mask=mask.long(), max_new_tokens=new, pad_token_id=self.eot_token_id, **stops, **options
        )
        texts = self.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
        return [_before(text, until) for text in texts]


def _harness() -> Any:
    try:
        import lm_eval
    except ImportError:
        raise RegraftError("tasks of lm-evaluation-harness need lm-eval", do="pip install 'regraft[eval]'") from None
    return lm_eval


def _language_model(model: CausalLM, batch_tokens: int | None) -> Any:
    from lm_eval.api.model import TemplateLM

    return type("RegraftModel", (_Requests, TemplateLM), {})(model, batch_tokens)


@contextmanager
def _own_dice() -> Iterator[None]:
    """Leaves every global random generator as it was: the harness seeds them all."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _generation(asked: Mapping[str, Any]) -> tuple[list[str], int, dict[str, Any]]:
    """Where to stop, how many tokens to write at most, and the options of `generate`: greedy if none are given."""
    options = dict(asked)
    until = options.pop("until", None) or []
    limits = [options.pop(name, None) for name in ("max_gen_toks", "max_new_tokens", "max_tokens")]
    temperature = float(options.pop("temperature", None) or 0.0)
    sampling = options.pop("do_sample", None)
    if sampling is None:
        sampling = temperature > 0
    if sampling:
        options |= {"temperature": temperature or 1.0}
    else:
        options = {name: value for name, value in options.items() if name not in ("top_p", "top_k", "min_p")}
    new = next((int(limit) for limit in limits if limit is not None), MAX_NEW_TOKENS)
    return [until] if isinstance(until, str) else list(until), new, {**options, "do_sample": bool(sampling)}


def _before(text: str, until: Sequence[str]) -> str:
    return text[: min((at for stop in until if stop and (at := text.find(stop)) >= 0), default=len(text))]


def _readable(metric: str, value: object) -> bool:
    if metric in _PER:
        return isinstance(value, tuple | list) and len(value) == 2
    return isinstance(value, bool | int | float | np.number)


def _values(found: Sequence[Any]) -> tuple[Any, Any]:
    """Numbers and weights, [items] each; a perplexity's pairs are a log-probability and what it is spread over."""
    table = np.array(found, dtype=np.float64)
    if table.ndim == 1:
        return table, np.ones(len(table))
    return -table[:, 0] / table[:, 1], table[:, 1]


def _companion(samples: Sequence[Sample]) -> Any:
    leads = [_lead(sample) for sample in samples]
    return None if None in leads else np.array(leads, dtype=np.float64)


def _lead(sample: Sample) -> float | None:
    """How far the right choice leads, or the log-probability of the only one, in nats; None where neither is meant."""
    answers = [responses[0] for responses in sample["resps"]]
    if not all(isinstance(answer, tuple) for answer in answers):
        return None
    each = [float(answer[0]) for answer in answers]
    if len(each) == 1:
        return each[0]
    target, prompts = sample["target"], {arguments[0] for arguments in sample["arguments"]}
    if not isinstance(target, int) or not 0 <= target < len(each) or len(prompts) > 1:
        return None
    return each[target] - max(each[:target] + each[target + 1 :])
