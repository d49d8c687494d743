"""One's own text for a language model, from a recipe file: domains by a column, or by files."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from regraft.core.errors import RegraftError
from regraft.evidence.compared import Setting
from regraft.recipes.comparison import Ground, Trial, attempt
from regraft.recipes.grounds import local_files, read_bench
from regraft.recipes.text_grounds import TextGroundFile
from regraft.worlds import llama
from regraft.worlds.own_texts import ground_of

WORDS = {"law": "court judge statute appeal", "mail": "hello regards parcel invoice", "logs": "error warn cache retry"}
NETWORK = "{llama: {width: 16, depth: 1, heads: 2, vocabulary: 300}}"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def texts(domain: str, count: int, seed: int) -> list[str]:
    dice = random.Random(f"{domain} {seed}")
    return [" ".join(dice.choices(WORDS[domain].split(), k=30)) for _ in range(count)]


def rows_of(seed: int, count: int = 10) -> list[dict[str, Any]]:
    return [{"text": text, "domain": domain} for domain in WORDS for text in texts(domain, count, seed)]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def ground(folder: Path, judged: str, **said: str) -> Ground:
    said = {"network": NETWORK, "context": "16", "batch": "4", **said}
    path = folder / "texts.yaml"
    path.write_text(
        f"grounds:\n  a:\n    judged: {judged}\n" + "".join(f"    {key}: {value}\n" for key, value in said.items())
    )
    file = read_bench(path).grounds["a"]
    assert isinstance(file, TextGroundFile)
    return ground_of(path, "a", file)


def documents(rows: Any) -> int:
    return int((rows["positions"] == 0).sum())


def test_domains_by_a_column_and_by_files(tmp_path: Path) -> None:
    write(tmp_path / "all.jsonl", rows_of(0))
    for domain in WORDS:
        write(tmp_path / f"{domain}.jsonl", [{"text": text} for text in texts(domain, 10, 0)])
    by = ground(tmp_path, "{train: all.jsonl, by: domain}")
    assert by.says == "3 domains of text (law, logs, mail), 16 tokens a row, 1 epoch; losses in nats a token"
    files = "{law: law.jsonl, logs: [logs.jsonl], mail: mail.jsonl}"
    of_files = ground(tmp_path, f"{{train: {files}}}")
    for seed in (0, 1):
        for a, b in zip(by.judged(seed).tasks, of_files.judged(seed).tasks, strict=True):
            assert a.name == b.name
            assert a.train["input_ids"].shape[1] == 16
            assert all(torch.equal(a.train[name], b.train[name]) for name in a.train)
            assert all(torch.equal(a.test[name], b.test[name]) for name in a.test)
    first, other = (by.judged(seed).tasks[0].test["input_ids"] for seed in (0, 1))
    assert first.shape != other.shape or not torch.equal(first, other), "a seed holds out documents of its own"
    few = ground(tmp_path, "{train: all.jsonl, by: domain, rows: 3, times: 3}", network="{llama: }").judged(0)
    assert [task.name for task in few.tasks[:4]] == ["law (1)", "logs (1)", "mail (1)", "law (2)"]
    assert [task.train.count for task in few.tasks] == [1] * 9


def test_what_is_held_out_is_learned_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "all.jsonl", rows_of(0))
    held = {domain: texts(domain, 2, 0) for domain in WORDS}
    elsewhere = held["law"][0]
    write(tmp_path / "more.jsonl", [*rows_of(0), {"text": elsewhere, "domain": "mail"}])
    write(tmp_path / "test.jsonl", [{"text": t, "domain": domain} for domain in WORDS for t in held[domain]])
    made = ground(tmp_path, "{train: more.jsonl, test: test.jsonl, by: domain}", context="4096")
    scenario = made.judged(0)
    tokenizer = made.network(scenario, 0).tokenizer  # type: ignore[attr-defined]
    for task in scenario.tasks:
        learned, asked = (
            {text.strip("\x00 ") for text in tokenizer.decode(rows["input_ids"][0]).split(llama.END)} - {""}
            for rows in (task.train, task.test)
        )
        assert asked == set(held[task.name])
        assert learned == set(texts(task.name, 10, 0)) - asked
    by_seed = ground(tmp_path, "{train: more.jsonl, by: domain}", context="4096").judged(0)
    assert [documents(task.test) for task in by_seed.tasks] == [3, 3, 3], "two, and what fills the block up"


def test_methods_learn_it_and_what_cannot_says_why(tmp_path: Path) -> None:
    write(tmp_path / "judged.jsonl", rows_of(0, 30))
    write(tmp_path / "tuning.jsonl", rows_of(1, 30))
    made = ground(tmp_path, "{train: judged.jsonl, by: domain}", tuning="{train: tuning.jsonl, by: domain}", lr="0.005")
    assert made.tuning is not None
    assert made.tuning(0).tasks[0].name == "law"
    found = {name: attempt(Trial("a", name, True, 0, Setting()), made) for name in ("naive", "er", "icarl")}
    assert found["naive"].better == "lower"
    assert 0 < found["er"].average < found["naive"].average < 6
    assert "no column 'y'" in found["icarl"].refused


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path / "all.jsonl", rows_of(0))
    model = llama.llama(llama.bpe([], 0), width=16, depth=1, heads=2, context=32, seed=3)
    llama.save(model, tmp_path / "net")
    made = ground(tmp_path, "{train: all.jsonl, by: domain}", network="{causal: net}")
    networks = [made.network(made.judged(0), seed) for seed in (0, 1)]
    for name, tensor in model.state().items():
        assert all(torch.equal(each.state()[name], tensor) for each in networks)
    assert networks[0].module is not networks[1].module
    assert made.training.lr == 1e-4
    assert tmp_path / "net" / "model.safetensors" in local_files(tmp_path / "texts.yaml")
    with pytest.raises(RegraftError, match="ground 'a', network: context: a context of 64 tokens is longer than the"):
        ground(tmp_path, "{train: all.jsonl, by: domain}", network="{causal: net}", context="64")


@pytest.mark.parametrize(
    ("judged", "said", "says"),
    [
        ("{train: all.jsonl}", {}, "grounds.a.judged: a stream of one file says `by`"),
        ("{train: {law: all.jsonl}, by: domain}", {}, "`by` or the files of each domain, one of them"),
        ("{train: {law: 3}}", {}, "grounds.a.judged.train: must be a file, or the files of each domain"),
        ("{train: all.jsonl, by: domain, test: {law: all.jsonl}}", {}, "`test` is said as `train` is"),
        ("{train: all.jsonl, by: domain, tasks: 2}", {}, "grounds.a.judged: no key 'tasks'"),
        ("{train: all.jsonl, by: area}", {}, "ground 'a', judged: .*all.jsonl: no column 'area'"),
        ("{train: all.jsonl, by: domain, text: txet}", {}, "no column 'txet'; did you mean 'text'"),
        ("{train: none.jsonl, by: domain}", {}, "ground 'a', judged: none.jsonl: cannot be read"),
        ("{train: odd.jsonl, by: domain}", {}, "odd.jsonl, row 2: empty text"),
        ("{train: {law: one.jsonl}}", {}, "domain 'law' has 1 document to learn and 0 to be tested on: too little"),
        ("{train: {law: all.jsonl}, test: {mail: one.jsonl}}", {}, "domain 'law' is not in both of `train` and `test`"),
        ("{train: all.jsonl, by: domain}", {"tuning": "{train: all.jsonl, by: domain}"}, "is the one that is judged"),
        ("{train: all.jsonl, by: domain}", {"network": "{llama: {width: 10}}"}, "cannot be dealt out to 4 heads"),
        ("{train: all.jsonl, by: domain}", {"network": "{causal: none}"}, "ground 'a', network: none: "),
        ("{train: all.jsonl, by: domain}", {"network": "{llama: {}, causal: x}"}, "one of `causal`, `llama`"),
        ("{train: all.jsonl, by: domain}", {"context": "1"}, "grounds.a.context: input should be greater than"),
    ],
)
def test_recipes_that_cannot_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judged: str, said: dict[str, str], says: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write(tmp_path / "all.jsonl", rows_of(0))
    write(tmp_path / "one.jsonl", [{"text": "a b"}])
    write(tmp_path / "odd.jsonl", [{"text": "a b", "domain": "x"}, {"text": " ", "domain": "x"}])
    with pytest.raises(RegraftError, match=says) as caught:
        ground(tmp_path, judged, **said).judged(0)
    assert "\n" not in str(caught.value)


def test_the_example_in_the_docs_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "continual.md").read_text(encoding="utf-8")
    [recipe] = [text.split("```")[0] for text in page.split("```yaml\n") if text.startswith("# texts.yaml")]
    path = tmp_path / "texts.yaml"
    path.write_text(recipe)
    write(tmp_path / "tickets.jsonl", rows_of(0))
    write(tmp_path / "news.jsonl", [{"prompt": text, "completion": "a b c"} for text in texts("law", 6, 1)])
    (tmp_path / "chat").mkdir()
    for i, text in enumerate(texts("mail", 4, 1)):
        (tmp_path / "chat" / f"{i}.txt").write_text(text)
    for i, name in enumerate(("a.py", "b.py")):
        (tmp_path / name).write_text(texts("logs", 1, i)[0])
    file = read_bench(path)
    said = file.grounds["tickets"]
    assert isinstance(said, TextGroundFile)
    assert len(local_files(path)) == 8
    made = ground_of(path, "tickets", said)
    assert made.tuning is not None
    assert [task.name for task in made.tuning(0).tasks] == ["news", "code", "chat"]
    for name in file.methods:
        for judged in (False, True):
            found = attempt(Trial("tickets", name, judged, 0, Setting()), made)
            assert not found.refused
            assert found.average < 8


def test_text_without_boundaries_comes_in_the_order_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "all.jsonl", rows_of(0))
    write(tmp_path / "test.jsonl", rows_of(1, 2))
    made = ground(tmp_path, "{train: all.jsonl, test: test.jsonl, by: domain, boundaries: false}", context="4096")
    assert "in order and without boundaries, 4096 tokens a row, 1 epoch" in made.says
    scenario = made.judged(0)
    said = made.network(scenario, 0).tokenizer.decode(scenario.tasks[0].train["input_ids"][0])  # type: ignore[attr-defined]
    assert said.split(llama.END)[:10] == texts("law", 10, 0)
    assert not attempt(Trial("a", "er", True, 0, Setting()), made).refused
    assert "ewc cannot act" in attempt(Trial("a", "online_ewc", True, 0, Setting()), made).refused
