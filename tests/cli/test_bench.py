"""`regraft bench continual`: on one's own data, resumed, with a method of one's own."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from regraft.cli import bench
from regraft.core.errors import RegraftError

MINE = '''"""Mine: plain training with weights that are held."""

from regraft.core.plan import Plan, Weighted
from regraft.parts.penalties.ewc import ewc
from regraft.recipes.strategy import Strategy, method


@method(tune={"strength": (1.0, 3.0)})
def mine(*, strength: float = 1.0) -> Strategy:
    return Strategy(Plan(penalties=(Weighted(ewc(), strength),)))
'''

RECIPE = """
methods: [er, mine.py, clr]
grounds:
  shop:
    judged: {train: judged.csv, label: kind, tasks: 2}
    tuning: {train: tuning.csv, label: kind, tasks: [[a, b], [c, d]]}
    network: {perceptron: [8]}
    epochs: 3
    memory: 6
    batch: 4
  by store:
    judged: {train: judged.csv, test: tuning.csv, label: kind, by: store}
    network: {perceptron: [8]}
    epochs: 1
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    dice = torch.Generator().manual_seed(0)
    for name in ("judged", "tuning"):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["width", "height", "store", "kind"])
            for i in range(60):
                x = torch.randn(2, generator=dice) + 2 * torch.tensor([i % 4 // 2, i % 2])
                writer.writerow([*x.tolist(), "north" if i % 3 else "south", "abcd"[i % 4]])
    (folder / "mine.py").write_text(MINE)
    (folder / "bench.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_own_data_and_an_own_method(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("bench", "continual", "--recipe", "bench.yaml", "--seeds", "3", "--settings", "2", "--out", "found")
    out, _ = run(*command)
    assert "shop: judged.csv: 2 tasks, 3 epochs; 2 columns read (width, height), not store" in out
    assert "in found: index.html (figure and table), table.md (table), results.json (numbers)" in out
    assert "clr is left out: reprogram: rows must say in column 'task'" in out
    found = json.loads((tmp_path / "found" / "results.json").read_text())
    assert {row["method"] for row in found["rows"]["shop"]} == {"naive", "er", "clr", str(Path("mine.py"))}
    assert [row["setting"] for row in found["rows"]["by store"]] == [{"knobs": {}, "lr": 1.0}] * 4, "nothing was tuned"
    assert (found["recipe"], found["methods"]) == ("bench.yaml", ["er", "mine.py", "clr"])
    assert "NaN" not in (tmp_path / "found" / "trials.jsonl").read_text()
    assert "<svg" in (tmp_path / "found" / "index.html").read_text()
    assert "| er |" in (tmp_path / "found" / "table.md").read_text()
    before = (tmp_path / "found" / "table.md").read_text()

    monkeypatch.setattr("regraft.recipes.trials.attempt", None)  # all is known: nothing is run again
    run(*command)
    assert (tmp_path / "found" / "table.md").read_text() == before


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("grounds: {a: {judged: {train: judged.csv}}}", "grounds.a.judged: a stream says `tasks` or `by`"),
        (
            "grounds: {a: {judged: {train: judged.csv, taks: 2}}}",
            "grounds.a.judged: no key 'taks'; did you mean 'tasks'",
        ),
        ("grounds: {a: {judged: {train: none.csv, tasks: 2}}}", "cannot be read"),
        ("grounds: {}", "bad.yaml: `grounds` names no ground"),
        ("grounds: {a: {judged: {train: judged.csv, tasks: 2}}}", "no column 'label'. `label: COLUMN` names it; text"),
        ("grounds: {a: {judged: {train: judged.csv, label: kind, tasks: 3}}}", "4 classes cannot be dealt out"),
        ("grounds: {a: {judged: {train: judged.csv, label: kind, tasks: [[a, z]]}}}", "judged.csv has the label 'z'"),
        ("methods: [none]\ngrounds: {a: {judged: {train: judged.csv, label: kind, tasks: 2}}}", "no strategy 'none'"),
        ("methods: [x.py]\ngrounds: {a: {judged: {train: judged.csv, label: kind, tasks: 2}}}", "no such file"),
    ],
)
def test_recipes_that_say_nothing_to_run(run: Any, tmp_path: Path, recipe: str, says: str) -> None:
    (tmp_path / "bad.yaml").write_text(recipe)
    out, err = run("bench", "continual", "--recipe", "bad.yaml", "--seeds", "1", "--settings", "1", code=2)
    assert says in out + err
    assert "Traceback" not in out + err


def test_own_text_for_a_language_model(run: Any, tmp_path: Path) -> None:
    rows = [{"text": f"{word} {i} " * 12, "domain": word} for i in range(12) for word in ("law", "mail")]
    for name, part in (("judged", rows[:14]), ("tuning", rows[14:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (tmp_path / "texts.yaml").write_text(
        "methods: [er, lwf]\ngrounds:\n  notes:\n    judged: {train: judged.jsonl, by: domain}\n"
        "    tuning: {train: tuning.jsonl, by: domain}\n    context: 16\n"
        "    network: {llama: {width: 8, depth: 1, heads: 2, vocabulary: 260}}\n"
    )
    out, _ = run("bench", "continual", "--recipe", "texts.yaml", "--seeds", "1", "--settings", "1", "--out", "found")
    assert "notes: 2 domains of text (law, mail), 16 tokens a row, 1 epoch; losses in nats a token" in out
    found = json.loads((tmp_path / "found" / "results.json").read_text())
    assert {row["method"] for row in found["rows"]["notes"]} == {"naive", "er", "lwf"}
    assert not any(row.get("refused") for row in found["rows"]["notes"])


def test_a_ground_that_there_is_not(run: Any) -> None:
    _, err = run("bench", "continual", "--ground", "clases", code=2)
    assert "no ground 'clases'; did you mean 'classes'" in err
    _, err = run("bench", "continual", "--recipe", "bench.yaml", "--ground", "ship", code=2)
    assert "did you mean 'shop'. There are shop, by store" in err


def test_the_state_of_the_code_is_part_of_what_is_known(tmp_path: Path) -> None:
    recipe = tmp_path / "a.yaml"
    recipe.write_text("a: 1")
    said = "grounds: {a: {judged: {train: rows.csv, tasks: %d}}}"
    recipe.write_text(said % 1)
    first = bench._state(recipe)
    assert bench._state(recipe) == first
    recipe.write_text(said % 2)
    second = bench._state(recipe)
    assert second != first
    (tmp_path / "rows.csv").write_text("a,label\n1,x\n")
    third = bench._state(recipe)
    assert third != second
    (tmp_path / "rows.csv").write_text("a,label\n2,x\n")
    assert bench._state(recipe) != third


def test_results_are_kept_whatever_becomes_of_the_page(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> str:
        raise RegraftError("no page")

    (tmp_path / "one.yaml").write_text(
        "methods: [naive]\ngrounds: {a: {judged: {train: judged.csv, label: kind, tasks: 1}, epochs: 1}}"
    )
    command = ("bench", "continual", "--recipe", "one.yaml", "--seeds", "2", "--settings", "1", "--out", "kept")
    with monkeypatch.context() as patch:
        patch.setattr("regraft.report.methods.page", broken)
        run(*command, code=2)
    assert json.loads((tmp_path / "kept" / "results.json").read_text())["seeds"] == [0, 1]
    out, _ = run(*command)
    assert "1.00×" in out
    assert "<table>" in (tmp_path / "kept" / "index.html").read_text()


def test_tables_fit_a_terminal_of_100_columns() -> None:
    from rich.console import Console

    from regraft.cli.tables import plain_table
    from regraft.evidence.compared import Cells, Found, Row, Setting, heads

    table = plain_table(*heads([Row("er", Setting(), None, (Found(),), 1.0)]))
    table.add_row(
        *Cells("synaptic_intelligence", "69.8 ± 12.5", "30.6 ± 15.6", "21.00×", "112.28×", "724 KiB", "c=0.1 lr×2.1")
    )
    assert Console().measure(table).maximum <= 100


FAULTS = """from regraft.recipes.strategy import Strategy, method


@method()
def {name}() -> Strategy:
{body}
"""


def test_a_method_that_raises_is_left_out_and_the_others_go_on(run: Any, tmp_path: Path) -> None:
    bodies = {"boom": '    raise ValueError("boom\\nat large")', "empty": "    return None"}
    for name, body in bodies.items():
        (tmp_path / f"{name}.py").write_text(FAULTS.format(name=name, body=body))
    (tmp_path / "faults.yaml").write_text(
        "methods: [boom.py, empty.py, er+boom.py, er]\n"
        "grounds: {a: {judged: {train: judged.csv, label: kind, tasks: 2}, epochs: 1}}"
    )
    out, _ = run("bench", "continual", "--recipe", "faults.yaml", "--seeds", "1", "--settings", "1", "--out", "f")
    assert "boom.py is left out: boom.py:6: ValueError: boom\n" in out
    assert "empty.py is left out: it returns a NoneType, not a Strategy\n" in out
    assert "er+boom.py is left out: boom.py:6: ValueError: boom\n" in out
    assert [line.split()[0] for line in out.splitlines() if "1.00×" in line] in (["er", "naive"], ["naive", "er"])
    assert "no intervals, for which 3 seeds are needed" in (tmp_path / "f" / "table.md").read_text()


def test_a_stopped_bench_says_how_many_runs_are_kept(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.core.errors import Interrupted
    from regraft.recipes import trials

    done: list[object] = []

    def stops(*given: Any) -> Any:
        done.append(given)
        if len(done) == 3:
            raise KeyboardInterrupt
        return attempt(*given)

    attempt = trials.attempt
    monkeypatch.setattr(trials, "attempt", stops)
    with pytest.raises(Interrupted, match=r"found: stopped; 2 runs are kept. The same command goes on with them"):
        bench.continual(["er"], ["classes"], None, 3, 1, 1, tmp_path / "found", as_json=False)


def test_grey_images_for_a_network_of_transformers(run: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from transformers import ViTConfig, ViTForImageClassification

    shape = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTForImageClassification(ViTConfig(**shape, image_size=8, patch_size=4)).save_pretrained(tmp_path / "vit")
    for name, side in (("rows", 8), ("large", 16)):
        save_file({"x": torch.randn(24, 1, side, side), "y": torch.arange(24) % 4}, tmp_path / f"{name}.safetensors")
        (tmp_path / f"{name}.yaml").write_text(
            "methods: [er, l2m, slm, l2p, contracon]\ngrounds:\n  grey:\n"
            f"    judged: {{train: {name}.safetensors, tasks: 2}}\n"
            "    network: {transformers: vit}\n    epochs: 1\n    memory: 8\n"
        )
    run("bench", "continual", "--recipe", "rows.yaml", "--seeds", "1", "--settings", "1", "--out", "found")
    rows = json.loads((tmp_path / "found" / "results.json").read_text())["rows"]["grey"]
    assert len(rows) == 6
    assert not any(row["refused"] for row in rows)
    command = ("bench", "continual", "--recipe", "large.yaml", "--seeds", "1", "--settings", "1", "--out", "none")
    out, err = run(*command, code=2)
    assert "ground 'grey': plain training, which all are measured by, cannot act: ValueError: Input image size" in err
    assert out == ""
