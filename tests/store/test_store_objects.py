"""Tensors, documents and files: what is put comes back bit for bit, verified, stored once, readable by safetensors."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from regraft.core.errors import DamagedStore, RegraftError
from regraft.store import Line, TensorRef
from regraft.store.tensorfile import KINDS

SHAPES: list[tuple[int, ...]] = [(), (0,), (1,), (7,), (3, 0, 2), (5, 3), (2, 3, 4)]


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line.create(tmp_path / "line", about={"model": "tiny"})


def files(line: Line) -> dict[str, tuple[int, int]]:
    return {
        str(p): (p.stat().st_ino, p.stat().st_mtime_ns)
        for p in line.path.rglob("*")
        if p.is_file() and p.name != "lock"
    }


def random_bits(dtype: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Every bit pattern, NaNs and negative zeros included."""
    dice = torch.Generator().manual_seed(seed)
    size = torch.Size(shape).numel()
    if dtype == "bool":
        return torch.randint(0, 2, (size,), generator=dice).bool().reshape(shape)
    raw = torch.randint(0, 256, (size * KINDS[dtype].size,), dtype=torch.uint8, generator=dice)
    return raw.view(getattr(torch, dtype)).reshape(shape)


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", KINDS)
def test_every_dtype_and_shape_round_trips_bit_for_bit(line: Line, dtype: str) -> None:
    for seed, shape in enumerate(SHAPES):
        tensor = random_bits(dtype, shape, seed)
        ref = line.put_tensor(tensor)
        assert ref == TensorRef(ref.digest, dtype, shape, tensor.numel() * tensor.element_size())
        for key in (ref, ref.digest):
            back = line.tensor(key)
            assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
            assert bits(back) == bits(tensor)


@pytest.mark.parametrize("dtype", KINDS)
def test_other_readers_of_safetensors_read_a_stored_tensor(line: Line, dtype: str) -> None:
    tensor = random_bits(dtype, (5, 3))
    (held,) = load_file(line.file(line.put_tensor(tensor).digest)).values()
    assert held.dtype == tensor.dtype
    assert bits(held) == bits(tensor)


def test_views_transposes_conjugates_and_parameters_are_stored_by_value(line: Line) -> None:
    base = random_bits("float32", (6, 4))
    whole = torch.complex(base, base)
    cases = [base.T, base[::2, 1:3], base[0].expand(5, 4), base.flip(0), whole.conj(), whole.conj().imag]
    for case in [*cases, torch.nn.Parameter(torch.ones(3))]:
        assert bits(line.tensor(line.put_tensor(case))) == bits(case.detach().resolve_conj().resolve_neg())


def test_equal_tensors_are_one_file_and_come_back_in_their_own_memory(line: Line) -> None:
    tied = torch.randn(4, 4)
    first, second = line.put_tensor(tied), line.put_tensor(tied.clone().T.contiguous().T)
    assert first == second
    a, b = line.tensor(first), line.tensor(second)
    a.zero_()
    assert torch.equal(b, tied)


def test_the_same_bytes_in_another_dtype_or_shape_are_another_tensor(line: Line) -> None:
    tensor = torch.zeros(4)
    refs = [line.put_tensor(t) for t in (tensor, tensor.int(), tensor.reshape(2, 2))]
    assert len({ref.digest for ref in refs}) == 3


def test_the_digest_hangs_on_no_library_version(line: Line) -> None:
    ref = line.put_tensor(torch.tensor([1.0, 2.0]))
    assert ref.digest == "8d23bbb1be97fe5ccd78aa312678304f998cfe659e8725ff30078e0bb8799d47"
    header, values = line.bytes(ref.digest)[8:128], line.bytes(ref.digest)[128:]
    assert header.rstrip() == b'{"tensor":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    assert values == bytes.fromhex("0000803f00000040")


def test_a_present_tensor_is_not_written_again_and_a_damaged_one_is_healed(line: Line) -> None:
    tensor = torch.randn(100)
    ref = line.put_tensor(tensor)
    before = files(line)
    line.put_tensor(tensor)
    assert files(line) == before
    path = line.file(ref.digest)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert line.put_tensor(tensor) == ref
    assert torch.equal(line.tensor(ref), tensor)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.empty(2, device="meta"),
        torch.eye(3).to_sparse(),
        torch.zeros(2, dtype=torch.complex128),
    ],
    ids=["meta", "sparse", "complex128"],
)
def test_what_cannot_be_stored_is_refused(line: Line, tensor: Tensor) -> None:
    before = files(line)
    with pytest.raises(RegraftError, match="cannot be stored"):
        line.put_tensor(tensor)
    assert files(line).keys() == before.keys()


@pytest.mark.parametrize("harm", ["flip", "truncate", "grow", "empty", "remove"])
def test_every_read_finds_damage_and_names_the_file(line: Line, harm: str) -> None:
    ref, document = line.put_tensor(torch.randn(50)), line.put_json({"a": [1, 2]})
    for digest in (ref.digest, document):
        path = line.file(digest)
        whole = bytearray(path.read_bytes())
        if harm == "flip":
            whole[len(whole) // 2] ^= 4
        content = {"flip": whole, "truncate": whole[:-3], "grow": whole + b"\0", "empty": b""}.get(harm, b"")
        path.unlink() if harm == "remove" else path.write_bytes(content)
        for read in (line.bytes, line.json, line.tensor, line.file):
            with pytest.raises(DamagedStore, match=digest):
                read(digest)


def test_a_reference_that_lies_about_its_tensor_is_found(line: Line) -> None:
    ref = line.put_tensor(torch.zeros(4))
    with pytest.raises(DamagedStore, match="was asked for"):
        line.tensor(TensorRef(ref.digest, "int32", (4,), 16))
    with pytest.raises(DamagedStore, match="holds no tensor"):
        line.tensor(line.put_json({}))
    with pytest.raises(RegraftError, match="not the digest"):
        line.bytes("../../regraft.json")


def test_documents_are_canonical(line: Line) -> None:
    one, two = {"b": [1, 2.5, None, True], "ä": {"x": "é\n", "a": "\u2028"}}, {}
    two["ä"], two["b"] = dict(reversed(list(one["ä"].items()))), tuple(one["b"])
    assert line.put_json(one) == line.put_json(two)
    assert line.json(line.put_json(one)) == one


@pytest.mark.parametrize(
    "document", [{1: "a"}, {"a": float("nan")}, {"a": [float("inf")]}, {"a": {1, 2}}, {"a": "\ud800"}, [{"x": {2: 3}}]]
)
def test_what_is_not_json_is_refused(line: Line, document: object) -> None:
    with pytest.raises(RegraftError, match="not a JSON document"):
        line.put_json(document)  # type: ignore[arg-type]


def test_files_are_stored_as_they_are(line: Line, tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    source = tmp_path / "tokenizer.json"
    source.write_bytes(content)
    digest = line.put_file(source)
    assert line.put_file(content) == digest
    assert line.bytes(digest) == content == line.file(digest).read_bytes()
    assert line.file(digest).stat().st_ino != source.stat().st_ino
    with pytest.raises(RegraftError, match="absent"):
        line.put_file(tmp_path / "absent")


def test_stored_files_have_ordinary_modes(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        line = Line.create(tmp_path / "line")
        line.put_tensor(torch.zeros(2))
        line.put_file(b"x")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in line.path.rglob("*") if p.is_file()} == {0o640}
    assert {stat.S_IMODE(p.stat().st_mode) for p in line.path.rglob("*") if p.is_dir()} == {0o750}


def test_a_big_endian_host_would_store_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.store import tensors

    little = {d: random_bits(d, (3, 2)) for d in KINDS}
    monkeypatch.setattr(sys, "byteorder", "big")
    for dtype, tensor in little.items():
        layout, swapped = tensors.to_bytes(tensor)
        words = torch.frombuffer(bytearray(swapped), dtype=torch.uint8).view(-1, KINDS[dtype].word).flip(1)
        assert words.reshape(-1).numpy().tobytes() == bits(tensor)
        back = tensors.from_buffer(torch.frombuffer(bytearray(swapped), dtype=torch.uint8), layout)
        assert bits(back) == bits(tensor)


def test_the_ledger_is_read_without_torch_or_numpy(line: Line) -> None:
    code = (
        "import sys; from regraft.store import Line; line = Line.open(sys.argv[1]);"
        "line.versions(); line.events(); line.pointers(); line.runs(); line.verify(); line.disk();"
        "heavy = {'torch', 'numpy', 'safetensors', 'transformers'} & sys.modules.keys(); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(line.path)], check=True)
