"""An update: one transaction on a line, written down call by call.

A recipe is a function of an `Update`. Each call is kept in the run's folder with its knobs and its result; a run that
was killed is gone through again, where calls that were done give their results at once and the one that was not goes on
from its newest checkpoint. The list of calls is the version's record.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from regraft.core.errors import Diverged, RegraftError
from regraft.core.parts import Model
from regraft.core.plan import Plan
from regraft.core.rows import Rows
from regraft.engine import checkpoint
from regraft.engine.estimate import seconds_per_row
from regraft.engine.fit import Fitted, fit, rehearse
from regraft.engine.processes import Processes
from regraft.engine.training import Training
from regraft.evidence.items import Items
from regraft.evidence.readings import Reading
from regraft.evidence.suites import Suite
from regraft.models.base import not_finite
from regraft.models.causal import CausalLM, context_from, tokenizer_from
from regraft.recipes.resolve import described
from regraft.recipes.sources import store_items
from regraft.store import CorpusUse, Draft, Line, TensorRef, Version

RELEASE, TRUNK, OPTIMIZER, MEMORY = "release", "trunk", "trunk/optimizer", "memory"


class Listener(Protocol):
    """Hears how an update goes."""

    def stage(self, name: str) -> None: ...
    def plan(self, steps: int, seconds: float | None) -> None: ...
    def record(self, record: Mapping[str, float]) -> None: ...
    def notice(self, text: str) -> None: ...


class Silence:
    """A listener that says nothing."""

    def stage(self, name: str) -> None: ...
    def plan(self, steps: int, seconds: float | None) -> None: ...
    def record(self, record: Mapping[str, float]) -> None: ...
    def notice(self, text: str) -> None: ...


class Fellow(Line):
    """The line in a process whose first process holds the lock for all. What both put is the same, by its content."""

    def writing(self) -> AbstractContextManager[None]:
        return nullcontext()


class Update:
    """One transaction on a line.

    Attributes:
        line: the history it adds a version to.
        base: the version it begins from.
        model: the model it changes, with the base's released weights at first.
        memory: what the parts of earlier updates left.
        calls: what was done so far: the record.
    """

    def __init__(
        self,
        line: Line,
        base: Version,
        run: str,
        *,
        device: str = "cpu",
        listener: Listener | None = None,
        processes: Processes | None = None,
        checkpoint_seconds: float = 60.0,
        trust_remote_code: bool = False,
    ) -> None:
        self.line, self.base, self.run = line, base, run
        self.listener: Listener = listener or Silence()
        self.processes = processes or Processes()
        self.checkpoint_seconds = checkpoint_seconds
        self.folder = line.run_dir(run)
        self.calls: list[Any] = []
        self.model = load_model(line, base, device=device, trust_remote_code=trust_remote_code)
        record = base.record if isinstance(base.record, dict) else {}
        self.memory: dict[str, Any] = {}
        if "memory" in record:
            self.memory = checkpoint.unpack(record["memory"], line.load(base, MEMORY) if MEMORY in base.bundles else {})
        self.began = time.monotonic()

    @property
    def training(self) -> bool:
        """Whether a checkpoint of a fit stands: before, nothing costly is lost when the run is thrown away."""
        return any(self.folder.glob("*/at/step-*"))

    def measure(self, when: str, suites: Mapping[str, Suite]) -> dict[str, Reading]:
        """Reads every suite with the model as it stands."""

        def make(folder: Path) -> Any:
            readings = {}
            for name, suite in list(suites.items())[self.processes.rank :: self.processes.size]:
                known = self._known(name, suite) if when == "before" else None
                if known is None:
                    self.listener.stage(f"measuring {name} ({when})")
                readings[name] = known or suite.measure(self.model)
                for remark in suite.remarks(readings[name]) if isinstance(suite, Items) else ():
                    self.listener.notice(f"{name}: {remark}")
            trees = self._exchanged(folder, {name: _reading_tree(r) for name, r in readings.items()})
            return {name: trees[name] for name in suites}

        what = {"measure": when, "suites": {n: s.fingerprint for n, s in suites.items()}}
        return {name: _reading_of(tree) for name, tree in self._call(what, make).items()}

    def _known(self, name: str, suite: Suite) -> Reading | None:
        """What the base's own evidence says of a suite."""
        after = self.base.evidence.get("after", {}) if isinstance(self.base.evidence, dict) else {}
        if name not in after or after[name]["fingerprint"] != suite.fingerprint:
            return None
        return stored_reading(self.line, self.base, "after", name)

    def rehearse(self, plan: Plan, data: Mapping[str, Rows], training: Training, *, times: int = 1) -> None:
        """Begins the plan's parts without a step, and says how long `times` fits will take, by a trial that leaves the
        model as it is; not of a run under way.

        Raises RegraftError for what a part cannot do here, and for a schedule that goes over its peak.
        """
        seconds = None
        factor = rehearse(self.model, plan, data, training, memory=self.memory)
        if factor > 1 + 1e-9:
            what = f"the schedule {plan.lr} raises the rate to {factor:g} times its peak"
            raise RegraftError(what, where="schedule", do="Give one for learning rates")
        if not self.training and not self.processes.rank:
            each = seconds_per_row(self.model, next(iter(data.values())), training)
            seconds = times * training.steps * training.batch * each / self.processes.size
        self.listener.plan(training.steps, seconds)

    def fit(
        self,
        plan: Plan,
        data: Mapping[str, Rows],
        training: Training,
        *,
        from_trunk: bool = False,
        others: Mapping[str, Model] | None = None,
        monitors: Mapping[str, Rows] | None = None,
        monitor_every: int = 50,
        model: CausalLM | None = None,
    ) -> Fitted:
        """Minimises the plan; the model then has the weights it ended with.

        Args:
            from_trunk: begins before the base's annealing.
            model: another than the update's, of which nothing goes into the version.
        """
        who = model or self.model

        def make(folder: Path) -> Any:
            who.check_packing()
            self.listener.stage("training")
            state = None
            if from_trunk:
                who.load(self.line.load(self.base, TRUNK))
                state = _by_tensor(self.line.load(self.base, OPTIMIZER))
            fitted = fit(
                who,
                plan,
                data,
                training,
                others=others,
                memory=self.memory,
                optimizer_state=state,
                monitors=monitors,
                monitor_every=monitor_every,
                folder=folder,
                checkpoint_seconds=self.checkpoint_seconds,
                processes=self.processes,
                on_record=self.listener.record,
                on_notice=self.listener.notice,
            )
            weights = who.state()
            if broken := not_finite(weights):
                raise Diverged(
                    f"after the last step of {training.steps} the tensor {broken!r} is not finite",
                    where=self.folder,
                    do="The line is as before; lower the learning rate and --restart",
                )
            return {"weights": weights, **vars(fitted)}

        rows = {name: table.count for name, table in data.items()}
        what = {"fit": described(plan), "training": described(training), "rows": rows, "from_trunk": from_trunk}
        done = dict(self._call(what, make))
        who.load(done.pop("weights"))
        fitted = Fitted(**done)
        if model is None:
            self.memory = fitted.memory
        return fitted

    def keep(self, what: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """What `make` gives, tensors and JSON values: made once, also where a run is gone through again."""
        return self._call(what, lambda _: make())

    def settle(self) -> None:
        """Rounds the weights to the dtypes they are released in, so that what is measured is what is shipped."""
        dtypes = {n: getattr(torch, ref.dtype) for n, ref in self.base.bundles[RELEASE].items()}
        self.model.load({n: t.to(dtypes[n]).to(t.dtype) for n, t in self.model.state().items() if n in dtypes})

    def commit(
        self,
        message: str,
        *,
        evidence: Mapping[str, Any],
        readings: Mapping[str, Mapping[str, Reading]],
        questions: Sequence[Items] = (),
        corpora: Sequence[CorpusUse] = (),
        fitted: Fitted | None = None,
        details: Mapping[str, Any] | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> Version:
        """Makes the model as it stands the next version of the line."""
        if self.processes.rank:
            return self.line.version(self.processes.tell(None))
        self.listener.stage("committing")
        line, base = self.line, self.base
        dtypes = {n: ref.dtype for n, ref in base.bundles[RELEASE].items()}
        with line.writing():
            bundles: dict[str, Mapping[str, TensorRef]] = {
                RELEASE: {
                    n: line.put_tensor(t.to(getattr(torch, dtypes.get(n, "float32"))))
                    for n, t in self.model.state().items()
                }
            }
            if fitted is not None and fitted.trunk is not None:
                bundles[TRUNK] = {n: line.put_tensor(t) for n, t in fitted.trunk["weights"].items()}
                bundles[OPTIMIZER] = {n: line.put_tensor(t) for n, t in _flat(fitted.trunk["optimizer"]).items()}
            tensors: dict[str, Tensor] = {}
            memory = checkpoint.pack(self.memory, tensors)
            if tensors:
                bundles[MEMORY] = {n: line.put_tensor(t) for n, t in tensors.items()}
            found = dict(evidence)
            for when, by_suite in readings.items():
                found[when] = {}
                for name, reading in by_suite.items():
                    header, arrays = reading.to_parts()
                    found[when][name] = {**header, "mean": reading.mean}
                    bundles[f"evidence/{when}/{name}"] = {
                        k: line.put_tensor(torch.from_numpy(a)) for k, a in arrays.items()
                    }
            for suite in questions:
                bundles[f"suite/{suite.name}"] = store_items(line, suite)
            draft = Draft(
                parents=(base.id,),
                bundles=bundles,
                files=base.files,
                record={**(record or {}), "calls": self.calls, "memory": memory},
                evidence=found,
                corpora=tuple(corpora),
                message=message,
            )
            spent = {
                "seconds": round(time.monotonic() - self.began, 3),
                "environment": {**environment(), "processes": str(self.processes.size)},
                **(details or {}),
            }
            version = line.commit(draft, spent, run=self.run)
        self.processes.tell(version.id)
        return version

    def _call(self, what: Mapping[str, Any], make: Callable[[Path], Any]) -> Any:
        """The result of a call: what the run's folder has of it, or made now and kept there."""
        folder = self.folder / f"{len(self.calls):02d}"
        seal = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        done = self._done(folder / "done")
        if done is None:
            done = {"what": seal, "result": make(folder / "at")}
            if self.processes.rank == 0:
                checkpoint.save(folder / "done", 0, done)
        elif done["what"] != seal:
            raise RegraftError(
                "the unfinished run was begun with other settings", where=self.folder, do="Use --restart"
            )
        self.processes.agree()
        self.calls.append(dict(what))
        return done["result"]

    def _done(self, folder: Path) -> Any | None:
        """What was kept of a call; the first process finds out whether it is there, before anybody writes."""
        if self.processes.rank:
            return checkpoint.newest(folder)[0] if self.processes.tell(None) else None
        done, damage = checkpoint.newest(folder)
        for error in damage:
            self.listener.notice(f"{error}; it is done again")
        self.processes.tell(done is not None)
        return done

    def _exchanged(self, folder: Path, mine: dict[str, Any]) -> dict[str, Any]:
        """The entries of all processes, exchanged through the run's folder."""
        if self.processes.size == 1:
            return mine
        own = checkpoint.save(folder / str(self.processes.rank), 0, mine)
        self.processes.agree()
        found: dict[str, Any] = {}
        for rank in range(self.processes.size):
            found |= checkpoint.load(folder / str(rank) / own.name)
        return found


def load_model(
    line: Line, version: Version, *, bundle: str = RELEASE, device: str = "cpu", trust_remote_code: bool = False
) -> CausalLM:
    """The model of a version, in float32."""
    model = CausalLM.from_files(_files(line, version), line.load(version, bundle), trust_remote_code=trust_remote_code)
    model.module.to(device)
    return model


def chosen_device(device: str) -> str:
    """The device that is meant: `auto` is cuda where there is one, else cpu. RegraftError for one that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:  # torch has no other word for it
        why = str(error).splitlines()[0][:160]
        raise RegraftError(f"no such device: {why}", where=f"--device {device}") from None
    return device


def load_tokenizer(line: Line, version: Version, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a version, or None."""
    return tokenizer_from(_files(line, version), trust_remote_code=trust_remote_code)


def load_context(line: Line, version: Version, *, trust_remote_code: bool = False) -> int | None:
    """The longest context that a version's configuration allows, in tokens."""
    return context_from(_files(line, version), trust_remote_code=trust_remote_code)


def _files(line: Line, version: Version) -> dict[str, bytes]:
    return {name: line.bytes(digest) for name, digest in version.files.items()}


def stored_reading(line: Line, version: Version, when: str, suite: str) -> Reading:
    """A reading that a version's evidence holds."""
    header = version.evidence[when][suite]
    arrays = {k: t.numpy() for k, t in line.load(version, f"evidence/{when}/{suite}").items()}
    return Reading.from_parts(header, arrays)


def environment() -> dict[str, str]:
    """What a result may depend on beside the code of an update."""
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "platform": f"{sys.platform} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
    }


def _reading_tree(reading: Reading) -> dict[str, Any]:
    header, arrays = reading.to_parts()
    return {"header": json.dumps(header), "arrays": {k: torch.from_numpy(a) for k, a in arrays.items()}}


def _reading_of(tree: Mapping[str, Any]) -> Reading:
    return Reading.from_parts(json.loads(tree["header"]), {k: t.numpy() for k, t in tree["arrays"].items()})


def _flat(state: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """What an optimizer knows, one tensor a name: `tensor/quantity`."""
    return {f"{n}/{k}": torch.as_tensor(v) for n, known in state.items() for k, v in known.items()}


def _by_tensor(flat: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in flat.items():
        tensor, _, quantity = name.rpartition("/")
        found.setdefault(tensor, {})[quantity] = value
    return found
