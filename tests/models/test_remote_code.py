"""Python files of a model run only when the caller trusts them; what goes wrong in them is one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from regraft.core.errors import RegraftError
from regraft.models.causal import CausalLM, context_from, tokenizer_from
from regraft.store.folder import read_folder
from regraft.worlds.llama import bpe, llama, save

OWN = """from transformers import LlamaConfig, LlamaForCausalLM

from .extra import SCALE


class OwnConfig(LlamaConfig):
    model_type = "own-llama"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig

    def forward(self, *args, **knobs):
        found = super().forward(*args, **knobs)
        found.logits = found.logits * SCALE
        return found
"""
NAMED = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
CODE = {"own.py": OWN.encode(), "extra.py": b"SCALE = 2.0\n"}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for the copies that transformers makes of code."""
    place = tmp_path / "modules"
    monkeypatch.setattr("transformers.utils.hub.HF_MODULES_CACHE", str(place))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(place))
    # Copies of code that other tests trusted lie elsewhere, under the same name.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not Path(path, "transformers_modules").is_dir()])
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        monkeypatch.delitem(sys.modules, name)
    return place


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, torch.Tensor]]:
    """A llama of transformers' own: its files and its tensors."""
    folder = tmp_path_factory.mktemp("plain")
    save(llama(bpe(["the cat sat on a mat"], 280), width=16, depth=2, heads=2, context=32), folder)
    files, tensors = read_folder(folder)
    return {name: path.read_bytes() for name, path in files.items()}, dict(tensors)


def changed(files: Mapping[str, bytes], name: str = "config.json", **fields: Any) -> dict[str, bytes]:
    return {**files, name: json.dumps({**json.loads(files[name]), **fields}).encode()}


def logits(model: CausalLM) -> torch.Tensor:
    model.module.eval()
    with torch.no_grad():
        found: torch.Tensor = model.module(input_ids=torch.arange(6)[None]).logits
    return found


@pytest.mark.parametrize("kind", ["own-llama", "llama"])
def test_code_is_refused_until_it_is_trusted(plain: Any, modules: Path, kind: str) -> None:
    """Also where transformers knows the architecture: it would give other numbers."""
    files, weights = plain
    named = {**changed(files, model_type=kind, auto_map=NAMED), **CODE}
    refused = r"^config\.json: the model needs Python code of its own to be run\. Read it, and if you trust it say --tr"
    for read in (
        lambda: CausalLM.from_files(named, weights),
        lambda: context_from(named),
        lambda: tokenizer_from(named),
    ):
        with pytest.raises(RegraftError, match=refused):
            read()
    assert not modules.exists()
    model = CausalLM.from_files(named, weights, trust_remote_code=True)
    assert type(model.module).__name__ == "OwnModel"
    assert torch.equal(logits(model), 2 * logits(CausalLM.from_files(files, weights)))
    assert context_from(named, trust_remote_code=True) == 32
    assert tokenizer_from(named, trust_remote_code=True) is not None


def test_without_code_trust_says_nothing(plain: Any) -> None:
    files, weights = plain
    named = changed(files, auto_map=NAMED)
    for trust in (False, True):
        assert type(CausalLM.from_files(named, weights, trust_remote_code=trust).module).__name__ == "LlamaForCausalLM"
        assert context_from(named, trust_remote_code=trust) == 32
        assert tokenizer_from(named, trust_remote_code=trust) is not None
    with pytest.raises(RegraftError, match="needs Python code of its own"):
        CausalLM.from_files(changed(named, model_type="own-llama"), weights)


def test_code_of_the_tokenizer_alone_is_code(plain: Any) -> None:
    files, _ = plain
    named = changed(files, "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "tok.Own"]})
    named["tok.py"] = (
        b"from transformers import PreTrainedTokenizerFast\n\n\nclass Own(PreTrainedTokenizerFast):\n    pass\n"
    )
    with pytest.raises(RegraftError, match="needs Python code of its own"):
        tokenizer_from(named)
    assert type(tokenizer_from(named, trust_remote_code=True)).__name__ == "Own"


def test_the_same_code_is_copied_once(plain: Any, modules: Path) -> None:
    files, weights = plain
    named = {**changed(files, model_type="own-llama", auto_map=NAMED), **CODE}
    first, second = (CausalLM.from_files(named, weights, trust_remote_code=True) for _ in range(2))
    context_from(named, trust_remote_code=True)
    assert len(list(modules.rglob("own.py"))) == len(list(modules.rglob("extra.py"))) == 1
    assert type(first.module) is type(second.module)
    halved = CausalLM.from_files({**named, "extra.py": b"SCALE = 1.0\n"}, weights, trust_remote_code=True)
    assert torch.equal(logits(first), 2 * logits(halved))


BROKEN = {
    "a missing package": (b"import nowhere_to_be_found\n", "packages that were not found in your environment: nowhere"),
    "a syntax error": (b"def (:\n", "SyntaxError: invalid syntax"),
    "an exception": (b"raise ZeroDivisionError('boom')\n", "ZeroDivisionError: boom"),
    "an exception without a text": (b"raise KeyError\n", "transformers cannot read the configuration: KeyError$"),
    "a missing class": (b"", "has no attribute 'OwnConfig'"),
    "no UTF-8": (b"# \xff\n", "can't decode byte"),
    "a long story": (b"raise RuntimeError('word\\n' * 1000)\n", "RuntimeError: word word .*…$"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_code_is_one_line(plain: Any, case: str) -> None:
    files, weights = plain
    code, says = BROKEN[case]
    named = {**changed(files, model_type="own-llama", auto_map=NAMED), "own.py": code}
    with pytest.raises(RegraftError, match=says) as caught:
        CausalLM.from_files(named, weights, trust_remote_code=True)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_code_that_breaks_while_it_builds(plain: Any) -> None:
    files, weights = plain
    code = OWN.replace("    def forward", "    def __init__(self, config):\n        1 / 0\n\n    def forward")
    named = {**changed(files, model_type="own-llama", auto_map=NAMED), **CODE, "own.py": code.encode()}
    with pytest.raises(RegraftError, match="cannot build the model: ZeroDivisionError: division by zero"):
        CausalLM.from_files(named, weights, trust_remote_code=True)


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "heads": ({"num_attention_heads": 3}, "not a multiple of the number of attention heads"),
    "dtype": ({"dtype": "nope"}, "AttributeError: module 'torch' has no attribute 'nope'"),
    "gptq": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "cannot build the model: "),
    "bitsandbytes": (
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        "cannot build the model: ",
    ),
    "flash attention": ({"_attn_implementation": "flash_attention_2"}, "cannot build the model: "),
    "padding": ({"pad_token_id": 100000}, "AssertionError: Padding_idx must be within"),
    "no vocabulary": ({"vocab_size": 0}, "IndexError: "),
    "an ill-typed field": ({"hidden_size": "16"}, "Field 'hidden_size' expected int, got str"),
    "an ill-typed kind": ({"model_type": [1]}, "TypeError: unhashable type"),
    "no auto_map": ({"auto_map": None}, "TypeError: "),
    "many tokens": ({"vocab_size": 10**12}, "the weights do not fit: 16000000005200 numbers wanted"),
    "very wide": ({"hidden_size": 10**30}, "TypeError: .*…$"),
    "very deep": ({"num_hidden_layers": 10**9}, "the weights do not fit: 1000000000 layers"),
    "of another kind": ({"model_type": "vit"}, "Unrecognized configuration class .*…$"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_bad_field_is_one_line(plain: Any, case: str) -> None:
    files, weights = plain
    fields, says = FIELDS[case]
    with pytest.raises(RegraftError, match=says) as caught:
        CausalLM.from_files(changed(files, **fields), weights)
    assert str(caught.value).startswith("config.json: ")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


DOCUMENTS = {
    "null": ("config.json", b"null", "config.json: .*TypeError: "),
    "a list": ("config.json", b"[]", "config.json: transformers cannot read the configuration: "),
    "a deep list": ("config.json", b"[" * 100000 + b"]" * 100000, "config.json: .*RecursionError: "),
    "a tokenizer's null": ("tokenizer_config.json", b"null", "tokenizer.json: .*AttributeError: "),
    "a tokenizer of nothing": ("tokenizer.json", b"{}", "tokenizer.json: .*KeyError: 'added_tokens'"),
    "tokens of nothing": ("special_tokens_map.json", b"null", "tokenizer.json: .*AttributeError: "),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_a_bad_document_is_one_line(plain: Any, case: str) -> None:
    files, weights = plain
    name, content, says = DOCUMENTS[case]
    with pytest.raises(RegraftError, match=f"^{says}"):
        CausalLM.from_files({**files, name: content}, weights)
