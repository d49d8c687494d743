"""Trials of a comparison, run in processes; each result is kept as it comes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from regraft.evidence.compared import Found
from regraft.evidence.running import Notes, in_processes
from regraft.recipes.comparison import Ground, Trial, attempt, files_of


@dataclass(frozen=True)
class Trials:
    """Runs those trials that are not known yet.

    Attributes:
        find: gives the ground of a name; importable, so that other processes can call it.
        notes: where results are kept.
        state: what they depend on, such as the code, beside the trial and the files of its method.
        jobs: processes at once, of one thread each; averages do not depend on it.
        progress: told (trials done, trials in all, the last) as they end.
    """

    find: Callable[[str], Ground]
    notes: Notes
    state: str
    jobs: int = 1
    progress: Callable[[int, int, Trial], None] | None = None

    def __call__(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Found]]:
        notes = self.notes.read()
        known = {t: Found.of(notes[key]) for t in trials if (key := self._key(t)) in notes}
        yield from known.items()
        done, left = len(known), [trial for trial in trials if trial not in known]
        for trial, found in in_processes(partial(_work, self.find), left, self.jobs, "the comparison"):
            self.notes.write(self._key(trial), found.to_json())
            done += 1
            if self.progress is not None:
                self.progress(done, len(trials), trial)
            yield trial, found

    def _key(self, trial: Trial) -> str:
        digest = hashlib.sha256(f"{self.state}/{trial!r}".encode())
        for file in files_of(trial.method):
            digest.update(Path(file).read_bytes())
        return digest.hexdigest()[:16]


def _work(find: Callable[[str], Ground], trial: Trial) -> Found:
    return attempt(trial, find(trial.ground))
