"""`bench continual`: methods for streams of tasks, compared: as many settings, epochs and rows of memory for each."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.cli.live import err, out, span
from regraft.cli.tables import plain_table
from regraft.core.errors import Interrupted, RegraftError, nearest

if TYPE_CHECKING:
    from regraft.evidence.compared import Comparison
    from regraft.recipes.comparison import Ground, Trial

USUAL = ("classes", "told", "inputs", "online")


def continual(
    methods: Sequence[str],
    grounds: Sequence[str],
    recipe: Path | None,
    seeds: int,
    settings: int,
    jobs: int,
    folder: Path,
    as_json: bool,
    hindsight: bool = False,
) -> None:
    """Tunes and judges, shows a table a ground, and writes `results.json`, `table.md` and `index.html` in `folder`."""
    from regraft.evidence.running import Notes
    from regraft.recipes.comparison import compare
    from regraft.recipes.resolve import modules
    from regraft.recipes.trials import Trials
    from regraft.report.methods import markdown, page

    find = partial(_ground, recipe)
    names: Sequence[str] = grounds or USUAL
    own: Sequence[str] = ()
    if recipe is not None:
        from regraft.recipes.grounds import read_bench

        file = read_bench(recipe)
        names = grounds or list(file.grounds)
        own = ["+".join(_beside(recipe, part) for part in name.split("+")) for name in file.methods]
        if unknown := next((name for name in names if name not in file.grounds), None):
            do = f"There are {', '.join(file.grounds)}"
            raise RegraftError(f"no ground {unknown!r}{nearest(unknown, file.grounds)}", where=recipe, do=do)
    places = {name: find(name) for name in names}
    chosen = [name for said in methods for name in said.split(",") if name] or list(own or modules("strategies"))
    notes = Notes(folder / "trials.jsonl")
    trials = Trials(find, notes, _state(recipe), jobs, _Progress())
    try:
        found = compare(places, chosen, trials, seeds=range(seeds), configurations=settings, hindsight=hindsight)
    except KeyboardInterrupt:
        kept = f"stopped; {len(notes.read())} runs are kept"
        raise Interrupted(kept, where=folder, do="The same command goes on with them") from None
    folder.mkdir(parents=True, exist_ok=True)
    made = {"recipe": None if recipe is None else str(recipe), "methods": chosen, **found.to_json()}
    results = json.dumps(made, indent=1, allow_nan=False)
    (folder / "results.json").write_text(results, encoding="utf-8")
    (folder / "table.md").write_text(markdown(found), encoding="utf-8")
    (folder / "index.html").write_text(page(found), encoding="utf-8")
    if as_json:
        print(results)
    else:
        _show(found)
        out.print(f"\nin {folder}: index.html (figure and table), table.md (table), results.json (numbers)")


def _ground(recipe: Path | None, name: str) -> Ground:
    if recipe is not None:
        from regraft.recipes.grounds import GroundFile, ground_of, read_bench
        from regraft.worlds import own_texts

        said = read_bench(recipe).grounds[name]
        return ground_of(recipe, name) if isinstance(said, GroundFile) else own_texts.ground_of(recipe, name, said)
    from regraft.worlds.grounds import GROUNDS

    if name not in GROUNDS:
        raise RegraftError(f"no ground {name!r}{nearest(name, GROUNDS)}", do=f"There are {', '.join(GROUNDS)}")
    return GROUNDS[name]


def _beside(recipe: Path, name: str) -> str:
    """A method as the recipe names it: files lie beside the recipe."""
    return str(recipe.parent / name) if name.endswith(".py") else name


def _state(recipe: Path | None) -> str:
    """What results depend on beside the trial and its method's files: the code, the recipe, and the files it names."""
    import regraft

    paths = sorted(Path(regraft.__path__[0]).rglob("*.py"))
    if recipe is not None:
        from regraft.recipes.grounds import local_files

        paths += [recipe, *local_files(recipe)]
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


class _Progress:
    """One line now and then: trials done, and about how long the rest will take."""

    def __init__(self) -> None:
        self.began = self.said = time.monotonic()
        self.known: int | None = None

    def __call__(self, done: int, total: int, trial: Trial) -> None:
        now = time.monotonic()
        if self.known is None:
            self.known = done - 1
        if done == total or now - self.said > 10:
            self.said = now
            phase = "judging" if trial.judged else "tuning"
            left = (now - self.began) / max(1, done - self.known) * (total - done)
            err.print(f"{phase}: {done} of {total} runs, about {span(left)} left", style="dim")
        if done == total:
            self.began, self.known = now, None


def _show(found: Comparison) -> None:
    from regraft.evidence.compared import Cells, heads, optimism, remark, verdict
    from regraft.report.methods import judged, legend

    out.print(legend(found), style="dim")
    for ground in found.grounds:
        out.print(f"\n{ground}: {judged(found, ground)}\n", soft_wrap=True)
        table = plain_table(*heads(found.rows[ground]))
        table.columns[0].no_wrap = True
        for row in found.rows[ground]:
            if not row.refused:
                table.add_row(*Cells.of(row))
        out.print(table)
        for said in filter(None, (verdict(found.rows[ground]), optimism(found.rows[ground]))):
            out.print(f"\n{said}", soft_wrap=True)
        for row in found.rows[ground]:
            if said := remark(row):
                out.print(f"{row.method} {said}", style="dim", soft_wrap=True)
