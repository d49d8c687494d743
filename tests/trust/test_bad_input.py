"""Bad input through the command line: one clear line, exit code 2, and the line's files as they were."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from trust_world import NEW, OLD, Ended, Shell, copy_line, files, head, learn, make_world, rows

from regraft.store import Line

ROW = json.dumps({"text": "the cat sat on a mat"})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], world: Path) -> Shell:
    monkeypatch.setenv("REGRAFT_CACHE", str(world / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Shell(monkeypatch, capfd)


@pytest.fixture
def refused(shell: Shell, world: Path) -> Callable[..., str]:
    """Runs a command that must be refused; the one line that it said."""

    def run(*arguments: object) -> str:
        before = files(world / "line")
        ended = shell(*arguments)
        assert ended.code == 2, ended.text
        assert files(world / "line") == before
        return ended.error

    return run


def update(world: Path, data: Path, *more: object) -> list[object]:
    return ["learn", world / "line", "--data", data, "--keep", world / "old.jsonl", *more]


DATA = {
    "not JSON": (b'{"text": "a"\n', "not JSON"),
    "a bad line later": (f"{ROW}\nnonsense\n".encode(), ":2: not JSON: Expecting value at column 1"),
    "not UTF-8": (b'{"text": "caf\xe9"}\n', "not UTF-8: byte"),
    "no usable field": (b'{"txt": "a"}\n', "no usable field"),
    "a field that is missing": (b'{"prompt": "a"}\n', "field `completion` is missing"),
    "a field of another type": (b'{"text": 3}\n', "field `text` must be a string"),
    "a weight that is no weight": (b'{"text": "a", "weight": -1}\n', "`weight` must be finite and at least 0"),
    "an empty file": (b"", "empty file"),
    "no rows": (b"\n\n", "no documents"),
    "a line of 50 MB": (b'{"text": "' + b"a" * (50 << 20) + b'"}\n', "line too long: over 32 MiB"),
    "empty text": (b'{"text": ""}\n', "empty text"),
    "blank text": (b'{"text": "  \\n "}\n', "empty text"),
    "mixed schemas": (f'{ROW}\n{{"prompt": "a", "completion": "b"}}\n'.encode(), ":2: mixed schemas"),
    "messages without a template": (b'{"messages": [{"role": "assistant", "content": "a"}]}\n', "no chat template"),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_rows(refused: Callable[..., str], world: Path, tmp_path: Path, case: str) -> None:
    raw, says = DATA[case]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(raw)
    said = refused(*update(world, path))
    assert says in said
    if "template" not in case:
        assert f"{path}" in said


def test_bad_text_to_keep(refused: Callable[..., str], world: Path, tmp_path: Path) -> None:
    """What is read first is not stored when what is read last is bad."""
    (tmp_path / "more.jsonl").write_text(rows(NEW, 20, 5))
    (tmp_path / "bad.jsonl").write_bytes(b"nonsense\n")
    said = refused("learn", world / "line", "--data", tmp_path / "more.jsonl", "--keep", tmp_path / "bad.jsonl")
    assert "bad.jsonl:1: not JSON" in said


def test_places_without_data(refused: Callable[..., str], world: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"\x89PNG")
    assert "no text, JSONL or Parquet file in the folder" in refused(*update(world, tmp_path / "empty"))
    assert "it holds 1 .png" in refused(*update(world, tmp_path / "images"))
    assert "did you mean 'new.jsonl'" in refused(*update(world, world / "now.jsonl"))
    assert "no new text. Name it with --data" in refused("learn", world / "line")


RECIPES = {
    "an unknown knob": ("replays: 0.1\n", "learn has no knob 'replays'; did you mean 'replay'"),
    "an unknown recipe": ("recipe: lern\n", "no recipe 'lern'; did you mean 'learn'"),
    "a syntax error": ("replay: 0.1\nlr: [1,\n", "recipe.yaml:3:1: not YAML"),
    "a tab": ("replay:\n\t- 1\n", "recipe.yaml:2:1: not YAML"),
    "no mapping": ("- replay\n", "a recipe is a mapping of knobs, not a list"),
    "nothing": ("", "a recipe is a mapping of knobs, not a NoneType"),
    "a word for a number": ("lr: fast\n", "lr: input should be a valid number"),
    "a list for a number": ("tokens: [1]\n", "tokens: input should be a valid integer"),
    "an unknown part": ("schedule: rewram\n", "no part 'rewram' among the schedules; did you mean 'rewarm'"),
    "an unknown knob of a part": ("schedule: {rewarm: {warm: 1}}\n", "rewarm has no knob 'warm'"),
    "a number for a part": ("schedule: 5\n", "a part is named, or a name with knobs, not 5"),
    "two parts in one": ("schedule: {rewarm: {}, linear: {}}\n", "one part is named by one key"),
    "knobs that are no mapping": ("schedule: {rewarm: 3}\n", "the knobs of 'rewarm' are a mapping, not 3"),
    "a word for a part's number": (
        "schedule: {rewarm: {warmup: soon}}\n",
        "rewarm.warmup: input should be a valid number",
    ),
    "shares over 1": ("shares: {new: 1.5}\n", "the shares add up to 1.5, not to 1"),
    "shares of an unknown source": ("shares: {nwe: 1.0}\n", "no source 'nwe'; did you mean 'new'"),
    "a negative share": ("shares: {new: -1.0}\n", "the shares add up to -1"),
    "a date": ("optimizer_knobs: {weight_decay: 2020-01-01}\n", "AdamW does not take"),
}


@pytest.mark.parametrize("case", RECIPES)
def test_bad_recipes(refused: Callable[..., str], world: Path, tmp_path: Path, case: str) -> None:
    text, says = RECIPES[case]
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    assert says in refused(*update(world, world / "new.jsonl", "--recipe", path))


KNOBS = {
    "tokens=0": "tokens: input should be greater than 0, not 0",
    "lr=-1": "lr: input should be greater than 0, not -1",
    "lr=.nan": "lr: input should be a finite number, not nan",
    "lr=.inf": "lr: input should be a finite number, not inf",
    "epochs=.inf": "epochs: input should be a finite number, not inf",
    "replay=1.5": "replay: input should be less than 1, not 1.5",
    "replay=-0.1": "replay: input should be greater than or equal to 0",
    "optimizer=adamw": "torch.optim has no optimizer 'adamw'; did you mean 'AdamW'",
    "optimizer_knobs={beta: 1}": "AdamW has no knob beta",
    "optimizer_knobs={betas: 3}": "AdamW does not take",
    "context=64": "a context of 64 tokens is longer than the model's 32",
    "context=1": "context: input should be greater than 1",
    "precision=float8": "precision: input should be 'float32' or 'bfloat16'",
    "seed=-1": "seed: input should be greater than or equal to 0",
    "batch_tokens=many": "batch_tokens: input should be a valid integer",
    "lr": "'lr' is not key=value",
    "lr=[": "--set:1:2: not YAML",
    "shedule=linear": "learn has no knob 'shedule'; did you mean 'schedule'",
    "sampler=[shuffled]": "a part is named, or a name with knobs, not ['shuffled']",
}


@pytest.mark.parametrize("knob", KNOBS)
def test_bad_knobs(refused: Callable[..., str], world: Path, knob: str) -> None:
    assert KNOBS[knob] in refused(*update(world, world / "new.jsonl", "--set", knob))


def test_bad_references(refused: Callable[..., str], world: Path, tmp_path: Path) -> None:
    new = world / "new.jsonl"
    assert "no version 'v7'. Near: v1" in refused(*update(world, new, "--base", "v7"))
    assert "no version 'haed'. Near: head" in refused("show", world / "line", "haed")
    assert "there is no such folder" in refused("learn", tmp_path / "nothing", "--data", new)
    assert "there is no line here" in refused("log", tmp_path)
    assert "there is no unfinished run to go on with" in refused("learn", world / "line", "--resume")
    assert "no line here, so there is no run" in refused("learn", world / "model", "--resume")
    assert "no such device" in refused(*update(world, new, "--device", "nowhere"))
    assert "nothing it knew would be replayed" in refused("learn", world / "line", "--data", new)
    assert "cannot be read" in refused(*update(world, new, "--recipe", tmp_path / "none.yaml"))


SUITES = {
    "not JSON": (b"nonsense\n", "not JSON"),
    "no answer": (b'{"prompt": "a"}\n', "field `answer` is missing"),
    "an answer that is no choice": (
        b'{"prompt": "a", "choices": ["x", "y"], "answer": "z"}\n',
        "not among the choices",
    ),
    "nothing": (b"", "empty file"),
    "an item too long for the model": (
        json.dumps({"prompt": "the cat " * 60, "choices": ["x", "y"], "answer": 0}).encode() + b"\n",
        "needs a context of",
    ),
}


@pytest.mark.parametrize("case", SUITES)
def test_bad_suites(shell: Shell, world: Path, tmp_path: Path, case: str) -> None:
    raw, says = SUITES[case]
    (tmp_path / "suite.jsonl").write_bytes(raw)
    line = copy_line(world, tmp_path / "line")
    ended = shell(
        "learn", line, "--data", world / "new.jsonl", "--keep", world / "old.jsonl", "--suite", tmp_path / "suite.jsonl"
    )
    assert (ended.code, says in ended.error) == (2, True), ended.text
    opened = Line.open(line)
    assert (len(opened.versions()), opened.runs(), opened.verify().damaged) == (1, [], [])


def rewrite(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def other_tokenizer(model: Path) -> None:
    from regraft.worlds.llama import bpe

    bpe([OLD, NEW, "entirely other words make many more tokens than the model has rows " * 3], 400).save_pretrained(
        model
    )


def without_tokenizer(model: Path) -> None:
    for path in model.glob("tokenizer*"):
        path.unlink()


def pickled(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def indexed_outside(model: Path) -> None:
    (model / "model.safetensors").rename(model.parent / "outside.safetensors")
    index = {"weight_map": {"model.norm.weight": "../outside.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def cut_short(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a tokenizer that does not fit": (other_tokenizer, "the tokenizer has token ids up to"),
    "weights in pickle alone": (pickled, "unpickling can run any code"),
    "an index with a path outside": (indexed_outside, "a path outside the folder"),
    "weights cut short": (cut_short, "not a whole safetensors file"),
    "no configuration": (lambda m: (m / "config.json").unlink(), "no config.json"),
    "a configuration that is no JSON": (lambda m: (m / "config.json").write_text("{"), "config.json"),
    "another shape": (
        lambda m: rewrite(m / "config.json", lambda d: d.update(hidden_size=32)),
        "do not fit config.json",
    ),
    "another depth": (lambda m: rewrite(m / "config.json", lambda d: d.update(num_hidden_layers=3)), "missing keys"),
    "a configuration of nothing": (lambda m: (m / "config.json").write_text("null"), "config.json: "),
    "heads that do not divide": (
        lambda m: rewrite(m / "config.json", lambda d: d.update(num_attention_heads=3)),
        "not a multiple of the number of attention heads",
    ),
    "sizes beyond any memory": (
        lambda m: rewrite(m / "config.json", lambda d: d.update(vocab_size=10**12)),
        "config.json: the weights do not fit",
    ),
    "a tokenizer of nothing": (lambda m: (m / "tokenizer_config.json").write_text("null"), "cannot read the tokenizer"),
    "an unknown architecture": (lambda m: rewrite(m / "config.json", lambda d: d.update(model_type="lama")), "lama"),
}


@pytest.mark.parametrize("case", MODELS)
def test_bad_models(shell: Shell, world: Path, tmp_path: Path, case: str) -> None:
    harm, says = MODELS[case]
    shutil.copytree(world / "model", tmp_path / "model")
    harm(tmp_path / "model")
    ended = shell("adopt", tmp_path / "model", tmp_path / "line")
    assert (ended.code, says in ended.error) == (2, True), ended.text
    assert not (tmp_path / "line").exists()


@pytest.mark.parametrize("offline", [True, False], ids=["told to be offline", "no network"])
def test_hub_names_without_a_hub(
    shell: Shell, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    def unreachable(*args: object, **knobs: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    if not offline:
        monkeypatch.delenv("HF_HUB_OFFLINE")
    for command in (["adopt", "someone/some-model", tmp_path / "line"], ["learn", "someone/some-model", "--data", "x"]):
        ended = shell(*command)
        assert (ended.code, "the hub cannot be reached" in ended.error) == (2, True), ended.text
    ended = shell(*update(world, Path("someone/some-dataset")))
    assert (ended.code, "offline" in ended.error) == (2, True), ended.text
    assert not (tmp_path / "line").exists()


def test_other_bad_models(shell: Shell, world: Path, tmp_path: Path) -> None:
    assert "no weights here" in shell("adopt", tmp_path, tmp_path / "line").error
    assert "a file, not a model folder" in shell("adopt", world / "new.jsonl", tmp_path / "line").error
    assert "the folder is not empty" in shell("adopt", world / "model", world).error
    assert not (tmp_path / "line").exists()
    shutil.copytree(world / "model", tmp_path / "model")
    without_tokenizer(tmp_path / "model")
    assert shell("adopt", tmp_path / "model", tmp_path / "line").code == 0
    before = files(tmp_path / "line")
    assert "the model has no tokenizer" in shell(*learn(world, tmp_path / "line")).error
    assert files(tmp_path / "line") == before


def test_a_manifest_with_a_path_outside(shell: Shell, world: Path, tmp_path: Path) -> None:
    line = Line.open(copy_line(world, tmp_path / "line"))
    version = line.version("head")
    manifest = {**line.json(version.id), "files": {"../evil.py": line.put_file(b"evil")}, "message": "evil"}
    with line.writing(), line.ledger.transaction() as image:
        image.execute("UPDATE versions SET id = ?", (line.put_json(manifest),))
        image.execute("UPDATE pointers SET version = (SELECT id FROM versions)")
    ended = shell("export", line.path, tmp_path / "export")
    assert (ended.code, "a path outside the folder" in ended.error) == (2, True), ended.text
    assert not (tmp_path / "export").exists()
    assert not (tmp_path / "evil.py").exists()


def test_skipped_rows_are_counted_and_listed(shell: Shell, world: Path, tmp_path: Path) -> None:
    bad = [ROW, "nonsense", '{"text": 3}', '{"text": ""}', '{"text": ""}']
    (tmp_path / "part.jsonl").write_text(rows(NEW, 20, 6) + "\n".join(bad) + "\n")
    line = copy_line(world, tmp_path / "line")
    command = ["learn", line, "--data", tmp_path / "part.jsonl", "--keep", world / "old.jsonl", "--skip-bad"]
    ended: Ended = shell(*command, "--set", "tokens=500")
    assert ended.code == 0, ended.text
    for said in ("2 rows: empty text", "1 rows: not JSON", "part.jsonl:22: not JSON", "part.jsonl:24: empty text"):
        assert said in ended.text
    opened = Line.open(line)
    assert opened.events()[-1].details["skipped"] == {
        "not JSON": 1,
        "field `text` must be a string": 1,
        "empty text": 2,
    }
    (tmp_path / "none.jsonl").write_text("nonsense\n")
    ended = shell("learn", line, "--data", tmp_path / "none.jsonl", "--skip-bad")
    assert (ended.code, "all 1 rows were skipped" in ended.error) == (2, True), ended.text


def test_bad_rows_of_a_suite_are_counted(shell: Shell, world: Path, tmp_path: Path) -> None:
    """Of documents too, whose bad first row does not make them something else, nor questions documents."""
    item = json.dumps({"prompt": "the", "choices": [" cat", " dog"], "answer": 0})
    (tmp_path / "texts.jsonl").write_text("nonsense\n3\n{}\n" + rows(NEW, 20, 7) + '{"text": ""}\n')
    (tmp_path / "quiz.jsonl").write_text(f'nonsense\n[1]\n{{"odd": 1}}\n{item}\n')
    line = copy_line(world, tmp_path / "line")
    suites = ["--suite", tmp_path / "texts.jsonl", "--suite", tmp_path / "quiz.jsonl"]
    ended = shell("eval", line, *suites, "--skip-bad")
    assert ended.code == 0, ended.text
    text = " ".join(ended.text.split())
    for said in ("texts: skipped 1: not JSON", "texts: skipped 1: empty text", "quiz: skipped 1: not JSON"):
        assert said in text
    assert "quiz: skipped 1: field `prompt` is missing" in text
    ended = shell("eval", line, "--suite", tmp_path / "quiz.jsonl")
    assert (ended.code, "quiz.jsonl:1: not JSON" in ended.error) == (2, True), ended.text


def test_rows_of_a_whole_text_are_not_a_part_of_it(world: Path, tmp_path: Path) -> None:
    from regraft.data.corpus import build_corpus
    from regraft.data.read import documents
    from regraft.evidence.suites import HeldOut, load_suites
    from regraft.recipes.update import load_tokenizer

    opened = Line.open(world / "line")
    tokenizer = load_tokenizer(opened, opened.version("head"))
    path = tmp_path / "texts.jsonl"
    path.write_text(rows(NEW, 20, 7) + "nonsense\n")
    [whole] = load_suites([path], tokenizer=tokenizer, cache=tmp_path / "cache", context=8, skip_bad=True)
    assert whole.skipped == {"not JSON": 1}
    corpus = build_corpus(documents([str(path)], skip_bad=True), tokenizer, cache=tmp_path / "cache")
    assert HeldOut("part", corpus.split(0.2)[1], 8).skipped == {}


def test_suites_for_a_model_without_a_tokenizer(shell: Shell, world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "model", tmp_path / "model")
    without_tokenizer(tmp_path / "model")
    assert shell("adopt", tmp_path / "model", tmp_path / "line").code == 0
    ended = shell("eval", tmp_path / "line", "--suite", world / "new.jsonl")
    assert (ended.code, "the model has no tokenizer, so it cannot read text" in ended.error) == (2, True), ended.text


def test_an_unfinished_run_is_not_forgotten(shell: Shell, world: Path, tmp_path: Path) -> None:
    """Neither thrown away nor gone on with by accident; a plan beside it leaves it alone."""
    from regraft.cli import runs, updates

    line = Line.open(copy_line(world, tmp_path / "line"))
    request = updates.Request(str(line.path), [str(world / "new.jsonl")], {"tokens": 500}, [str(world / "old.jsonl")])
    with line.writing():
        name, order = updates._order(line, request)
        runs.begin(line, name, order)
    same = ["learn", line.path, "--data", world / "new.jsonl", "--keep", world / "old.jsonl", "--set", "tokens=500"]
    assert f"an unfinished run is here: {name}. Use --resume or --restart" in shell(*same).error
    assert "asked for something else" in shell(*same, "--set", "tokens=600", "--resume").error
    assert shell(*same, "--plan-only").code == 0
    assert line.runs() == [name]
    assert name in shell("log", line.path).text
    assert shell(*same, "--resume").code == 0
    first = head(line.path)
    assert shell("rollback", line.path, "v1").code == 0
    assert shell(*same, "--restart").code == 0
    assert head(line.path) == first


def test_a_new_line_is_not_made_for_a_command_that_says_nothing(
    shell: Shell, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no new text" in shell("learn", world / "model").error
    assert list(tmp_path.iterdir()) == []


def test_usage(shell: Shell, world: Path) -> None:
    for arguments in (
        ["lern"],
        ["learn"],
        ["learn", world / "line", "--dta", "x"],
        ["show", world / "line", "--rows", "x"],
    ):
        ended = shell(*arguments)
        assert ended.code == 2
        assert "Traceback" not in ended.text
