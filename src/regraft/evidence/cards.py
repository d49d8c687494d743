'''Cards: what every method says of itself, read from its own file without importing it.

A method is found by its place: `parts/<kind>/<name>.py`, `strategies/<name>.py`, `repairs/<name>.py` or
`recipes/<name>.py` defines `<name>`. The file stem is the name of the object, the card, the claim (`claims/<name>.py`)
and the record (`evidence/records/<name>.json`); a stem that begins with an underscore is no method. A claim that
belongs to no one method (a combination, a finding of a paper) has the card of its own file. Third parties add an entry
point of the group `regraft.parts` that names a package with the same folders: `samplers/`, ..., `strategies/`,
`repairs/`, `recipes/`, `claims/`, `evidence/records/`.

The words of a card are the module's docstring:

    """Headline in one line: what it does, in words.

        the formula, in the code's own names (any block indented by four)

    Free prose.

    Paper:   "Exact Title" Author et al. 2024. https://arxiv.org/abs/2403.08763
    Paper:   (once for each paper)
    Claim:   what it promises, as a direction.
    Needs:   columns, data, memory.   Leaves: what it keeps for the next update.
    Differs: where it differs from the paper or its reference code, and why.
    Tags:    exemplar-free, task-free
    """

Every field is optional; the fields end the docstring. A field goes on over indented lines, and may begin within a line
after two spaces or more. A title ends at the last double quote, so it may hold quotes. Knobs come from the signature of
the object, the standing from the record and from the code as it is now.
'''

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

from regraft.core.errors import RegraftError, nearest

KINDS = {
    "samplers": "sampler",
    "losses": "loss",
    "penalties": "penalty",
    "trainables": "trainable",
    "gradients": "gradient transform",
    "schedules": "schedule",
    "references": "reference",
    "transforms": "transform",
    "edits": "edit",
    "metrics": "metric",
    "strategies": "strategy",
    "repairs": "repair",
    "recipes": "recipe",
}
BESIDE_PARTS = ("strategies", "repairs", "recipes")
"""The kinds whose folders lie beside that of the parts."""
FINDING = "finding"
Standing: TypeAlias = Literal["shown", "not shown", "cannot tell", "stale", "unmeasured", "no claim"]
"""`no claim`: a building block that says of itself what it does and claims nothing; its tests are exact."""
JUDGED: tuple[Standing, ...] = ("shown", "not shown", "cannot tell")

# Every method runs on these, so a change here would make all evidence stale at once and say nothing of any one method.
_MACHINERY = re.compile(r"(core|models|data|store|engine|evidence|report|cli)[/.]")
_FIELDS = ("Paper", "Claim", "Needs", "Leaves", "Differs", "Tags")
_FIELD = re.compile(rf"(?:^|(?<=\S) {{2,}})({'|'.join(_FIELDS)}):\s+")
_FIRST_FIELD = re.compile(rf"^(?:{'|'.join(_FIELDS)}):", re.MULTILINE)
_PAPER = re.compile(r'"(.+)"\s+(.*?)\s*(https?://\S+?)\.?')
_FIELD_LIKE = re.compile(r"^([A-Z][a-z]+): ", re.MULTILINE)


@dataclass(frozen=True)
class Paper:
    """A source; `title` is exactly as in the catalogue."""

    title: str
    by: str
    url: str


@dataclass(frozen=True)
class Knob:
    """One argument, as written in the signature; `default` is None where there is none and a value is required."""

    name: str
    type: str
    default: str | None


@dataclass(frozen=True)
class Card:
    """What a method says of itself, and what was measured of it.

    `measured` is the record without the fingerprints it is checked by; None: unmeasured.
    """

    name: str
    kind: str
    headline: str
    formula: str
    prose: str
    papers: tuple[Paper, ...]
    claim: str
    needs: str
    leaves: str
    differs: str
    tags: tuple[str, ...]
    knobs: tuple[Knob, ...]
    standing: Standing
    measured: Mapping[str, Any] | None = field(repr=False)
    path: Path = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "headline": self.headline,
            "papers": [{"title": p.title, "url": p.url} for p in self.papers],
            "knobs": [{"name": k.name, "type": k.type, "default": k.default} for k in self.knobs],
            "standing": self.standing,
            "tags": list(self.tags),
            "measured": self.measured,
            "claim": self.claim,
            "differs": self.differs,
            "needs": self.needs,
            "leaves": self.leaves,
            "formula": self.formula,
        }


@dataclass(frozen=True)
class Tree:
    """One package of methods on disk. `parts` is the folder that holds the folders of the kinds."""

    package: str
    root: Path
    parts: Path

    def methods(self) -> Iterator[tuple[str, Path]]:
        """(kind, file) of every method in the order of `KINDS`, then of the claims that belong to no one method."""
        named = set()
        for folder, kind in KINDS.items():
            for path in _python((self.root if folder in BESIDE_PARTS else self.parts) / folder):
                if folder != "recipes" or _defines_itself(path):
                    named.add(path.stem)
                    yield kind, path
        yield from ((FINDING, path) for path in self.claims() if path.stem not in named)

    def claims(self) -> list[Path]:
        return _python(self.root / "claims")

    def claim(self, name: str) -> Path:
        return self.root / "claims" / f"{name}.py"

    def record(self, name: str) -> Path:
        return self.root / "evidence" / "records" / f"{name}.json"

    def key(self, path: Path) -> str:
        """How a record names a source file, on every machine: `regraft/numerics/fisher.py`."""
        for package, root in self._roots().items():
            if path.is_relative_to(root):
                return f"{package.replace('.', '/')}/{path.relative_to(root).as_posix()}"
        raise RegraftError("the file belongs to no known package", where=path)

    def source(self, dotted: str) -> Path | None:
        """The file of a module of this package or of regraft that evidence depends on; None for any other module."""
        for package, root in self._roots().items():
            if dotted.startswith(f"{package}."):
                inside = dotted.removeprefix(f"{package}.").replace(".", "/") + ".py"
                path = root / inside
                if not path.is_file() or (package == OURS.package and _MACHINERY.match(inside)):
                    return None
                return path if path.parent != root / "recipes" or _defines_itself(path) else None
        return None

    def file(self, key: str) -> Path | None:
        """The file that `key` names."""
        for package, root in self._roots().items():
            prefix = f"{package.replace('.', '/')}/"
            if key.startswith(prefix):
                return root / key.removeprefix(prefix)
        return None

    def _roots(self) -> dict[str, Path]:
        return {self.package: self.root} if self.package == OURS.package else {self.package: self.root, **OURS._roots()}


@dataclass(frozen=True)
class Code:
    """The code that a piece of evidence stands on.

    `hash`, 16 hex digits, ignores comments, docstrings and layout. `files`: digest of each file's bytes, by key: as
    long as these agree nothing has to be parsed to know that the evidence is fresh.
    """

    hash: str
    files: Mapping[str, str]


def _python(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.py") if not p.stem.startswith("_"))


def _defines_itself(path: Path) -> bool:
    """Whether a file of `recipes/` is a recipe, and not what recipes are made with."""
    return re.search(rf"^(?:(?:def|class) {path.stem}\b|{path.stem}\b[^\n]*=)".encode(), _bytes(path), re.M) is not None


def tree_at(root: Path) -> Tree:
    """The tree of a copy of regraft itself, which lies at `root` (the folder that holds `parts/`)."""
    return Tree("regraft", root, root / "parts")


OURS = tree_at(Path(__file__).parents[1])


def trees(root: Path | None = None, *, broken: Callable[[RegraftError], None] | None = None) -> list[Tree]:
    """The tree at `root` alone, or else ours and that of every entry point `regraft.parts`; none is imported.

    An entry point that leads nowhere is handed to `broken`, or raised.
    """
    if root is not None:
        return [tree_at(root)]
    from importlib.metadata import entry_points

    found = [OURS]
    for package in sorted({point.value for point in entry_points(group="regraft.parts")}):
        try:
            found.append(_installed(package))
        except RegraftError as error:
            (broken or _raise)(error)
    return found


def _installed(package: str) -> Tree:
    from importlib.util import find_spec

    # Only the top package may be asked for: to find `a.b`, find_spec would import `a`.
    top, *rest = package.split(".")
    spec = find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise RegraftError(
            f"the entry point `regraft.parts` names {package!r}, which is no installed package",
            do="Install it again, or remove what names it",
        )
    root = Path(next(iter(spec.submodule_search_locations)), *rest)
    return Tree(package, root, root)


# --- the list -------------------------------------------------------------------------------------------------------


def cards(root: Path | None = None, *, broken: Callable[[RegraftError], None] | None = None) -> list[Card]:
    """Every method's card, by kind and name.

    A file that cannot be read as a card is handed to `broken`, one line each, and hides no other; without `broken` it
    is raised.
    """
    report = broken or _raise
    found: dict[str, Card] = {}
    for tree in trees(root, broken=report):
        for kind, path in tree.methods():
            try:
                new = _read(kind, path, tree)
                if old := found.get(new.name):
                    raise RegraftError(f"a second method named {new.name!r}; the first is {old.path}", where=path)
                found[new.name] = new
            except RegraftError as error:
                report(error)
    order = [*KINDS.values(), FINDING]
    return sorted(found.values(), key=lambda c: (order.index(c.kind), c.name))


def card(name: str, root: Path | None = None) -> Card:
    """The card of one method. Reads no other file, so that another broken one is not in the way."""
    found = [(kind, path, tree) for tree in trees(root) for kind, path in tree.methods()]
    for kind, path, tree in found:
        if path.stem == name:
            return _read(kind, path, tree)
    hint = nearest(name, [path.stem for _, path, _ in found])
    raise RegraftError(f"no method named {name!r}{hint}", do="See `regraft methods`")


def _raise(error: RegraftError) -> NoReturn:
    raise error


def _read(kind: str, path: Path, tree: Tree) -> Card:
    source = _bytes(path)
    module = parse(source, path)
    node = module.body[0] if module.body else None
    doc = ast.get_docstring(module)
    if not doc or node is None:
        raise RegraftError("no docstring", where=f"{path}:1", do="A method's module docstring is its card")
    words = _words(doc, path, node.lineno)
    knobs = () if kind == FINDING else _knobs(path.stem, _definitions(module), _Text(source), path)
    record = read_record(path.stem, tree)
    silent = record is None and not words["claim"] and not tree.claim(path.stem).is_file()
    return Card(
        name=path.stem,
        kind=kind,
        knobs=tuple(knobs),
        standing="no claim" if silent else _standing(path.stem, tree, record, path),
        measured=record and {k: v for k, v in record.items() if k not in ("standing", "code", "versions", "threads")},
        path=path,
        **words,
    )


def parse(source: bytes, path: Path) -> ast.Module:
    """The syntax tree, or an error that names file and line."""
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise RegraftError(f"not Python: {error.msg}", where=f"{path}:{error.lineno or 1}") from None
    except ValueError as error:
        raise RegraftError(f"not Python: {error}", where=f"{path}:1") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RegraftError(f"cannot be read: {error.strerror}", where=path) from None


# --- the words: docstring -------------------------------------------------------------------------------------------


def _words(doc: str, path: Path, first: int) -> dict[str, Any]:
    """Headline, formula, prose and fields of a docstring that begins on line `first` of `path`."""

    def fail(what: str, at: int, do: str = "") -> NoReturn:
        raise RegraftError(what, where=f"{path}:{first + doc.count(chr(10), 0, at)}", do=do)

    headline, _, rest = doc.partition("\n")
    if rest and not rest.startswith("\n"):
        fail("the headline is longer than one line", 0, "Leave the second line of the docstring empty")
    start = match.start() if (match := _FIRST_FIELD.search(doc, len(headline))) else len(doc)
    for like in _FIELD_LIKE.finditer(doc, len(headline), start):
        if hint := nearest(like[1], _FIELDS):
            fail(f"unknown field {like[1]!r}{hint}", like.start())
    blocks = [b for b in re.split(r"\n\s*\n", doc[len(headline) : start]) if b.strip()]
    papers: list[Paper] = []
    said: dict[str, str] = {}
    for line in re.finditer(r"\S.*(?:\n[ \t]+\S.*)*", doc[start:]):
        at = start + line.start()
        before, *pieces = _FIELD.split(re.sub(r"\n\s+", " ", line[0]))
        if before:
            fail("text after the fields", at, "Indent it to continue a field, or put it before the first one")
        for name, text in zip(pieces[::2], map(str.strip, pieces[1::2]), strict=True):
            if name == "Paper":
                if not (paper := _PAPER.fullmatch(text)):
                    fail(f"not a paper: {text[:60]}", at, 'Write  Paper: "Exact Title" Author et al. 2024. https://...')
                papers.append(Paper(paper[1], paper[2].rstrip(" .,"), paper[3]))
            elif said.setdefault(name, text) is not text:
                fail(f"a second field {name!r}", at)
    return {
        "headline": headline.strip(),
        "formula": "\n\n".join(_dedent(b.strip("\n")) for b in blocks if _indented(b)),
        "prose": "\n\n".join(b.strip("\n") for b in blocks if not _indented(b)),
        "papers": tuple(papers),
        "tags": tuple(t for t in map(str.strip, said.get("Tags", "").rstrip(".").split(",")) if t),
        **{name.lower(): said.get(name, "") for name in ("Claim", "Needs", "Leaves", "Differs")},
    }


def _indented(block: str) -> bool:
    return block.lstrip("\n").startswith("    ")


def _dedent(block: str) -> str:
    lines = block.splitlines()
    indent = min(len(x) - len(x.lstrip()) for x in lines)
    return "\n".join(x[indent:].rstrip() for x in lines)


# --- the knobs: signature -------------------------------------------------------------------------------------------


class _Text:
    """The source text of a node, as written."""

    def __init__(self, source: bytes) -> None:
        self.lines = source.splitlines()

    def __call__(self, node: ast.expr) -> str:
        # unparse costs ten times as much as parsing did; offsets count bytes.
        if node.lineno == node.end_lineno:
            return self.lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()
        return ast.unparse(node)


def _definitions(module: ast.Module) -> dict[str, ast.stmt | None]:
    found: dict[str, ast.stmt | None] = {}
    for node in module.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found[name] = node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = node
    return found


def _knobs(name: str, defined: Mapping[str, ast.stmt | None], text: _Text, path: Path) -> list[Knob]:
    """The fields of a dataclass, or the keyword-only arguments of a function, maybe wrapped: `lwf = loss(distil)`."""
    match defined.get(name):
        case ast.ClassDef(bases=bases, body=body):
            knobs: dict[str, Knob] = {}
            for base in bases:
                if isinstance(base, ast.Name) and base.id in defined:
                    knobs.update({k.name: k for k in _knobs(base.id, {**defined, name: None}, text, path)})
            knobs.update({k.name: k for node in body if (k := _class_field(node, text))})
            return list(knobs.values())
        case ast.FunctionDef(args=ast.arguments(kwonlyargs=args, kw_defaults=defaults)):
            return [
                Knob(a.arg, _type(a.annotation, text), text(d) if d else None)
                for a, d in zip(args, defaults, strict=True)
            ]
        case (
            ast.Assign(value=ast.Call(args=[ast.Name(id=made)]))
            | ast.AnnAssign(value=ast.Call(args=[ast.Name(id=made)]))
        ):
            return _knobs(made, {**defined, name: None}, text, path)
        case _:
            raise RegraftError(
                f"defines no class or function {name!r}", where=f"{path}:1", do="File and object share a name"
            )


def _type(annotation: ast.expr | None, text: _Text) -> str:
    """The annotation; of `Annotated[T, ...]`, whose rest is for the reader of recipe files, T."""
    match annotation:
        case None:
            return ""
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[plain, *_])):
            return text(plain)
        case _:
            return text(annotation)


def _class_field(node: ast.stmt, text: _Text) -> Knob | None:
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
        return None
    kind = _type(node.annotation, text)
    if re.match(r"(typing\.)?ClassVar\b|(dataclasses\.)?KW_ONLY\b", kind):
        return None
    match node.value:
        case ast.Call(func=ast.Name(id="field"), keywords=keywords):
            said = {k.arg: k.value for k in keywords}
            if isinstance(init := said.get("init"), ast.Constant) and init.value is False:
                return None
            return Knob(node.target.id, kind, _made(said.get("default"), said.get("default_factory"), text))
        case value:
            return Knob(node.target.id, kind, text(value) if value else None)


def _made(default: ast.expr | None, factory: ast.expr | None, text: _Text) -> str | None:
    if default:
        return text(default)
    if isinstance(factory, ast.Lambda):
        return text(factory.body)
    return f"{text(factory)}()" if factory else None


# --- the standing: record and code ----------------------------------------------------------------------------------


def read_record(name: str, tree: Tree) -> dict[str, Any] | None:
    """The record of a claim as it was written; None: unmeasured."""
    path = tree.record(name)
    try:
        record = json.loads(path.read_bytes())
        if record["standing"] in JUDGED and isinstance(record["code"]["hash"], str) and record["code"]["files"].keys():
            return dict(record)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, OSError):
        pass
    raise RegraftError("not a record of a claim", where=path, do=f"Measure it again: regraft claims run {name}")


def standing(name: str, tree: Tree = OURS) -> Standing:
    """What is known of a claim: the verdict of its record if the record is of the code as it is now."""
    method = next((path for _, path in tree.methods() if path.stem == name), None)
    return _standing(name, tree, read_record(name, tree), method)


def _standing(name: str, tree: Tree, record: Mapping[str, Any] | None, method: Path | None) -> Standing:
    if record is None:
        return "unmeasured"
    files = record["code"]["files"]
    same = all(_is(tree.file(key), digest) for key, digest in files.items())
    if not (same and (method is None or tree.key(method) in files)) and code(name, tree).hash != record["code"]["hash"]:
        return "stale"
    verdict: Standing = record["standing"]
    return verdict


def code(name: str, tree: Tree = OURS) -> Code:
    """What the evidence of `name` stands on: its own file, its claim's, and the modules that these two import directly.

    The floors under every method (core, models, data, store, engine, this harness) are left out.
    """
    own = [path for _, path in tree.methods() if path.stem == name]
    own += [path for path in (tree.claim(name),) if path.is_file() and path not in own]
    modules = {path: parse(_bytes(path), path) for path in own}
    for path, module in list(modules.items()):
        for used in _imported(module, path, tree):
            if used not in modules:
                modules[used] = parse(_bytes(used), used)
    shapes = {tree.key(path): path for path in modules}
    digest = hashlib.sha256()
    for key in sorted(shapes):
        digest.update(f"{key}\0{_shape(modules[shapes[key]])}\0".encode())
    return Code(digest.hexdigest()[:16], {key: _digest(_bytes(shapes[key])) for key in sorted(shapes)})


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()[:16]


def _is(path: Path | None, digest: str) -> bool:
    try:
        return path is not None and _digest(path.read_bytes()) == digest
    except OSError:
        return False


def _imported(module: ast.Module, path: Path, tree: Tree) -> list[Path]:
    dotted = []
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names):
                dotted += [a.name for a in names]
            case ast.ImportFrom(module=of, names=names, level=level):
                # Relative to the package that holds the file: one dot is that package itself.
                home = tree.key(path).split("/")[: -level or None] if level else []
                base = ".".join([*home, of] if of else home)
                dotted += [base, *(f"{base}.{a.name}" for a in names)]
    return [source for name in dict.fromkeys(dotted) if (source := tree.source(name))]


def _shape(node: object) -> str:
    """What the code says, without layout and docstrings: alike on every version of Python, as `ast.dump` is not."""
    if isinstance(node, list):
        return f"[{','.join(_shape(n) for n in node if not _is_text(n))}]"
    if isinstance(node, ast.JoinedStr):
        # Python 3.12 ends some format specifications with an empty constant.
        return f"f{_shape([v for v in node.values if not (isinstance(v, ast.Constant) and v.value == '')])}"
    if not isinstance(node, ast.AST):
        return repr(node)
    said = ((f, v) for f, v in ast.iter_fields(node) if v is not None and v != [])
    return f"{type(node).__name__}({','.join(f'{f}={_shape(v)}' for f, v in said)})"


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
