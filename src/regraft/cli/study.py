"""`study`: settings tried on short forks of a model; the line is left as it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.cli.live import Live, out
from regraft.cli.tables import plain_table
from regraft.core.errors import Interrupted
from regraft.store import Line
from regraft.store.documents import canonical

if TYPE_CHECKING:
    from regraft.recipes.rewarming import Fork, Side, Study


def rewarming(
    target: Path,
    data: Sequence[str],
    keep: Sequence[str],
    base: str,
    knobs: Mapping[str, Any],
    device: str,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Runs the study on a version of the line and shows its table. Stopped, the same command goes on where it was."""
    from regraft.recipes import texts
    from regraft.recipes.files import check
    from regraft.recipes.rewarming import rewarming
    from regraft.recipes.sources import Sources
    from regraft.recipes.update import Update, chosen_device, load_tokenizer

    check(knobs, where="--set", recipe=rewarming)
    device = chosen_device(device)
    line = Line.open(target)
    version = line.version(base)
    tokenizer = load_tokenizer(line, version, trust_remote_code=trust_remote_code)
    new, *kept = (texts.Text.of(texts.read(paths, tokenizer)) for paths in (data, *([path] for path in keep)))
    order: dict[str, Any] = {
        "base": version.id,
        "knobs": knobs,
        "new": new.digest,
        "kept": [text.digest for text in kept],
    }
    run = f"study-{hashlib.sha256(canonical(order)).hexdigest()[:12]}"
    live = Live()
    with line.writing():
        try:
            update = Update(line, version, run, device=device, listener=live, trust_remote_code=trust_remote_code)
            found = rewarming(**knobs)(
                update, Sources(new, texts.past(line, version), kept, texts.elsewhere(line, version))
            )
        except (Interrupted, KeyboardInterrupt):
            raise Interrupted("stopped", where=target, do="The same command goes on with it") from None
        except BaseException:
            line.remove_run(run)
            raise
        finally:
            live.close()
        line.remove_run(run)
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        _show(found)


def _show(found: Study) -> None:
    sides = ("loss on new", "loss on old", "spike on new", "spike on old")
    table = plain_table("warm-up", "peak", *sides, "old back after")
    for fork in found.forks:
        losses, spikes = zip(*(_numbers(side) for side in (fork.new, fork.old)), strict=True)
        table.add_row(*_setting(fork), *losses, *spikes, _back(fork.old))
    out.print(table)
    best = found.best()
    where = "mean of both losses" if best.old else "loss on new text"
    out.print(f"lowest {where}: warm-up {', peak '.join(_setting(best))}")
    if found.spread is not None:
        out.print(f"the length of the rise moves the loss on new text by {found.spread:.2%} at most")


def _setting(fork: Fork) -> tuple[str, str]:
    return "none: constant" if fork.warmup is None else f"{fork.warmup:.1%}", f"{fork.lr:.3g} ({fork.height:g}×)"


def _numbers(side: Side | None) -> tuple[str, str]:
    return (f"{side.loss:.4f}", f"{side.spike:+.3f}") if side else ("", "")


def _back(old: Side | None) -> str:
    if old is None or not old.spike:
        return ""
    return "not back" if old.recovery is None else f"{old.recovery:,.0f} tokens"
