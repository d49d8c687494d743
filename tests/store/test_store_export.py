"""Folders: what is exported loads anywhere, what is read is checked first."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from regraft.core.errors import DamagedStore, RegraftError
from regraft.store import Draft, Line, Version
from regraft.store.export import export
from regraft.store.folder import list_files, read_folder


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line.create(tmp_path / "line")


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    dice = torch.Generator().manual_seed(seed)
    return {
        "embed": torch.randn(10, 4, generator=dice).bfloat16(),
        "norm": torch.randn(3, generator=dice).double(),
        "mask": torch.tensor([True, False, True]),
        "scale": torch.tensor(2.0),
        "none": torch.empty(0, 4),
    }


def commit(line: Line, seed: int = 0, **files: str) -> Version:
    named = {"config.json": '{"model_type": "tiny"}', "templates/chat.jinja": "{{ x }}", **files}
    draft = Draft(
        bundles={"release": {name: line.put_tensor(t) for name, t in tensors(seed).items()}},
        files={name: line.put_file(text.encode()) for name, text in named.items()},
        evidence={"loss": 1.25},
        message=f"seed {seed}",
    )
    return line.commit(draft)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) and one[n].dtype == two[n].dtype for n in one)


def test_an_export_is_a_plain_folder(line: Line, tmp_path: Path) -> None:
    version = commit(line)
    folder = export(line, "head", tmp_path / "out" / "model")
    assert names(folder) == ["config.json", "model.safetensors", "regraft-version.json", "templates"]
    assert equal(load_file(folder / "model.safetensors"), tensors())
    with safe_open(folder / "model.safetensors", framework="pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    assert (folder / "templates" / "chat.jinja").read_text() == "{{ x }}"
    lineage = json.loads((folder / "regraft-version.json").read_text())
    assert (lineage["version"], lineage["evidence"], lineage["parents"]) == (version.id, {"loss": 1.25}, [])
    assert (folder / "model.safetensors").stat().st_mode & 0o444 == 0o444 & ~_umask()
    assert names(tmp_path / "out") == ["model"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("limit", [1, 60, 100, 1e9])
def test_shards_hold_each_tensor_once_and_fit(line: Line, tmp_path: Path, limit: float) -> None:
    commit(line)
    folder = export(line, "head", tmp_path / "out", max_shard_bytes=limit)
    shards = sorted(folder.glob("*.safetensors"))
    if limit == 1e9:
        assert [s.name for s in shards] == ["model.safetensors"]
        return
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    held = {name: s.name for s in shards for name in load_file(s)}
    assert held == index["weight_map"]
    assert shards[-1].name == f"model-{len(shards):05d}-of-{len(shards):05d}.safetensors"
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in tensors().values())
    sizes = [sum(t.numel() * t.element_size() for t in load_file(s).values()) for s in shards]
    assert all(size <= max(limit, 80) for size in sizes)
    files, read = read_folder(folder)
    assert equal(dict(read), tensors())
    assert list(files) == ["config.json"]


def test_transformers_loads_an_export(line: Line, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "hub")
    files, read = read_folder(tmp_path / "hub")
    draft = Draft(
        bundles={"release": {name: line.put_tensor(t) for name, t in read}},
        files={name: line.put_file(path) for name, path in files.items()},
    )
    folder = export(line, line.commit(draft), tmp_path / "out", max_shard_bytes=4000)
    again = LlamaForCausalLM.from_pretrained(folder).eval()
    tokens = torch.arange(12)[None]
    assert torch.equal(model(tokens).logits, again(tokens).logits)


def test_an_export_never_mixes_with_what_was_there(line: Line, tmp_path: Path) -> None:
    first, second = commit(line, 0), commit(line, 1)
    target = tmp_path / "out"
    export(line, first, target, max_shard_bytes=1)
    (target / "notes.txt").write_text("old")
    before = contents(target)
    with pytest.raises(RegraftError, match="earlier export"):
        export(line, second, target)
    assert contents(target) == before
    export(line, second, target, overwrite=True)
    assert names(target) == ["config.json", "model.safetensors", "regraft-version.json", "templates"]
    assert equal(load_file(target / "model.safetensors"), tensors(1))
    (target / "regraft-version.json").unlink()
    with pytest.raises(RegraftError, match="not empty"):
        export(line, second, target, overwrite=True)
    assert names(tmp_path) == ["line", "out"]


def test_a_failed_export_leaves_nothing(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = commit(line)
    path = line.blobs.path(version.bundles["release"]["embed"].digest)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\xff")
    with pytest.raises(DamagedStore, match=path.name):
        export(line, version, tmp_path / "out")
    path.write_bytes(whole)
    fsync = os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RegraftError, match="the disk is full"):
        export(line, version, tmp_path / "out")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RegraftError, match="no bundle 'master'"):
        export(line, version, tmp_path / "out", bundle="master")
    assert names(tmp_path) == ["line"]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "regraft-version.json", "x/old.safetensors"]
)
def test_a_file_of_a_version_cannot_pose_as_weights(line: Line, tmp_path: Path, name: str) -> None:
    version = commit(line, **{name: "x"})
    with pytest.raises(RegraftError, match="a name that the export needs"):
        export(line, version, tmp_path / "out")
    assert names(tmp_path) == ["line"]


def hub(folder: Path, shards: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    whole = tensors()
    if shards == 1:
        save_file(whole, folder / "model.safetensors")
    else:
        parts = {"a.safetensors": ["embed", "norm", "none"], "b.safetensors": ["mask", "scale"]}
        for file, held in parts.items():
            save_file({name: whole[name] for name in held}, folder / file)
        where = {name: file for file, held in parts.items() for name in held}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "config.json").write_text(
        json.dumps({"auto_map": {"AutoModel": "modeling_x.X", "AutoTokenizer": ["a--tok.T", None]}})
    )
    for name in ("tokenizer.json", "tokenizer.model", "README.md", "modeling_x.py", "tok.py", "other.py", "LICENSE"):
        (folder / name).write_text("{}")
    for name in ("pytorch_model.bin", "training_args.bin", ".gitattributes", "tf_model.h5", "photo.png"):
        (folder / name).write_text("never read")
    return folder


@pytest.mark.parametrize("shards", [1, 2])
def test_a_folder_gives_its_tensors_and_files(tmp_path: Path, shards: int) -> None:
    folder = hub(tmp_path / "hub", shards)
    files, read = read_folder(folder)
    assert equal(dict(read), tensors())
    assert sorted(files) == ["LICENSE", "README.md", "config.json", "tokenizer.json", "tokenizer.model"]
    kept, skipped = list_files(folder, trust_remote_code=True)
    assert kept.keys() - files.keys() == {"modeling_x.py", "other.py", "tok.py"}
    assert sorted(skipped) == [
        ".gitattributes",
        "photo.png",
        "pytorch_model.bin",
        "tf_model.h5",
        "training_args.bin",
    ]


def test_a_hub_cache_of_links_is_read(tmp_path: Path) -> None:
    folder = hub(tmp_path / "hub")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for file in folder.iterdir():
        (snapshot / file.name).symlink_to(file)
    assert equal(dict(read_folder(snapshot)[1]), tensors())


def _index(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    path = folder / "model.safetensors.index.json"
    document = json.loads(path.read_text())
    change(document["weight_map"])
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (shutil.rmtree, "no folder here"),
        (lambda f: (f / "b.safetensors").unlink(), "the shard b.safetensors is missing"),
        (lambda f: _index(f, lambda m: m.update(ghost="a.safetensors")), "'ghost' is not in a.safetensors"),
        (
            lambda f: _index(f, lambda m: m.update(embed="b.safetensors")),
            "is in a.safetensors, which the index does not",
        ),
        (lambda f: _index(f, lambda m: m.pop("embed")), "'embed' is in a.safetensors, which the index does not say"),
        (lambda f: _index(f, lambda m: m.update(embed="../a.safetensors")), "outside the folder"),
        (lambda f: _index(f, lambda m: m.update(embed="/etc/passwd")), "outside the folder"),
        (lambda f: _index(f, lambda m: m.clear()), "weight_map is missing, empty"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{"), "not a readable JSON"),
        (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "not a JSON object"),
        (lambda f: save_file(tensors(), f / "model.safetensors"), "both model.safetensors and"),
        (
            lambda f: (f / "a.safetensors").write_bytes((f / "a.safetensors").read_bytes()[:-1]),
            "not a whole safetensors",
        ),
        (lambda f: (f / "a.safetensors").write_bytes(b""), "not a whole safetensors"),
        (lambda f: [p.unlink() for p in f.glob("*safetensors*")], r"pickled \(pytorch_model.bin\).*save_pretrained"),
        (lambda f: [p.unlink() for p in f.glob("*[sbp][ai][fnt]*")], "no weights here"),
    ],
)
def test_a_bad_folder_is_one_clear_error(tmp_path: Path, harm: Callable[[Path], object], message: str) -> None:
    folder = hub(tmp_path / "hub", shards=2)
    harm(folder)
    with pytest.raises(RegraftError, match=message) as caught:
        read_folder(folder)
    assert caught.value.exit_code == 2


def test_an_adapter_alone_and_missing_code_are_named(tmp_path: Path) -> None:
    folder = hub(tmp_path / "hub")
    (folder / "tok.py").unlink()
    with pytest.raises(RegraftError, match=r"auto_map names tok\.py"):
        read_folder(folder, trust_remote_code=True)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    with pytest.raises(RegraftError, match="adapter alone"):
        read_folder(folder)


def test_code_of_a_tokenizer_and_odd_maps_of_code(tmp_path: Path) -> None:
    folder = hub(tmp_path / "hub")
    code = {"modeling_x.py", "other.py", "tok.py"}
    (folder / ".hidden.py").touch()
    for odd in (None, [], ["modeling_x.X", None], {"AutoModel": None}, {}):
        (folder / "config.json").write_text(json.dumps({"auto_map": odd}))
        kept, skipped = list_files(folder, trust_remote_code=True)
        assert code == {name for name in kept if name.endswith(".py")}
        assert ".hidden.py" in skipped
    (folder / "config.json").write_text("{}")
    for named, message in (
        ({"AutoTokenizer": ["gone.T", None]}, r"tokenizer_config\.json: auto_map names gone\.py"),
        (["gone.T"], r"auto_map names gone\.py"),
        ({"AutoTokenizer": "sub/tok.T"}, r"auto_map names sub/tok\.py, which is not at the top of the folder"),
        ("/etc/tok.T", "outside the folder"),
        (5, r"auto_map names 5\.py"),
    ):
        (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": named}))
        assert list_files(folder)[0]
        with pytest.raises(RegraftError, match=message):
            list_files(folder, trust_remote_code=True)
