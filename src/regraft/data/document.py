"""Documents: one checked row each, and what is wrong with a row that is none."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

Row: TypeAlias = Mapping[str, Any]

FIELDS = {"text": ("text",), "messages": ("messages",), "completion": ("prompt", "completion")}
_EXTRA_FIELDS = {"text": frozenset[str](), "messages": frozenset({"tools"}), "completion": frozenset[str]()}
_COMMON_FIELDS = frozenset({"weight", "source", "tags", "id"})
USED_COLUMNS = frozenset({"text", "messages", "tools", "prompt", "completion"}) | _COMMON_FIELDS
NEEDED = "rows need `text`, or `messages`, or `prompt` and `completion`"
_JSON_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
_JSON_NAMES |= {int: "a number", float: "a number"}
_LARGEST_WEIGHT = 3e38  # of float32
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Text:
    """Running text: every token is learned."""

    kind: ClassVar[str] = "text"
    text: str

    @property
    def size(self) -> int:
        return len(self.text)

    def fields(self) -> dict[str, Any]:
        return {"text": self.text}


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation in the Hugging Face form; the assistant's turns are learned."""

    kind: ClassVar[str] = "messages"
    messages: list[dict[str, Any]]
    tools: list[Any] | None = None

    @property
    def size(self) -> int:
        return sum(len(m.get("content") or "") for m in self.messages)

    def fields(self) -> dict[str, Any]:
        return {"messages": self.messages} | ({"tools": self.tools} if self.tools else {})


@dataclass(frozen=True, slots=True)
class Completion:
    """A prompt and what should follow it; the completion is learned."""

    kind: ClassVar[str] = "completion"
    prompt: str
    completion: str

    @property
    def size(self) -> int:
        return len(self.prompt) + len(self.completion)

    def fields(self) -> dict[str, Any]:
        return {"prompt": self.prompt, "completion": self.completion}


Content: TypeAlias = Text | Chat | Completion


@dataclass(frozen=True, slots=True)
class Document:
    """One checked row.

    `id` is the first 16 bytes of the SHA-256 of the content's canonical JSON (sorted keys, no spaces, UTF-8): two rows
    with the same content have the same id, whatever their weight, source or place. `name` is the row's own `id`
    field, `file` the index in `Reader.files`, `line` the line (JSONL) or row (tables, lists), from 1.
    """

    id: bytes
    content: Content
    weight: float
    source: str
    tags: tuple[str, ...]
    name: str | None
    file: int
    line: int


class BadRow(Exception):
    """A row that cannot be used: a `reason` to count by, and the `detail` of this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason + detail)
        self.reason = reason


def parse_row(raw: object) -> Row:
    """The fields of a row: of a JSON line, or as a table gives it. Raises BadRow, also the one that `raw` may be."""
    if isinstance(raw, BadRow):
        raise raw
    row = parse_json(raw) if isinstance(raw, bytes) else raw
    if not isinstance(row, dict):
        raise BadRow("not an object", f": {_got(row)}; {NEEDED}")
    return row


def kind_of(row: Row, form: tuple[str, int] | None) -> str:
    """Which kind of content a row holds; `form` is the kind of the file's first row and that row's line."""
    kinds = [kind for kind, fields in FIELDS.items() if all(row.get(name) is not None for name in fields)]
    if len(kinds) > 1:
        raise BadRow("more than one kind of content", f": {listed(kinds)}; keep one")
    if not kinds:
        raise _incomplete(row, form[0] if form else None)
    if form and kinds[0] != form[0]:
        now, first = (listed(FIELDS[kind]) for kind in (kinds[0], form[0]))
        raise BadRow("mixed schemas", f": has {now} but line {form[1]} has {first}; a file holds one kind of row")
    return kinds[0]


def _incomplete(row: Row, kind: str | None) -> BadRow:
    begun = kind or next((k for k, fields in FIELDS.items() if any(name in row for name in fields)), None)
    if begun is None:
        return BadRow("no usable field", f": {NEEDED}; the row has {listed(row)}")
    lacking = next(name for name in FIELDS[begun] if row.get(name) is None)
    return BadRow(f"field `{lacking}` is {'null' if lacking in row else 'missing'}", f"; the row has {listed(row)}")


def unread_fields(row: Row, kind: str) -> set[str]:
    """The fields of a row that nothing reads."""
    given = {name for name, value in row.items() if value is not None}
    return given - _COMMON_FIELDS - _EXTRA_FIELDS[kind] - set(FIELDS[kind])


def document_of(row: Row, kind: str, source: str, file: int, line: int) -> Document:
    """The checked document of a row of `kind`; `source` is that of rows which name none."""
    content = _CONTENT[kind](row)
    given = {name: row[name] for name in _COMMON_FIELDS if row.get(name) is not None}
    name = given.get("id")
    if name is not None and (isinstance(name, bool) or not isinstance(name, str | int)):
        raise ill_typed("id", name, "a string or an integer")
    return Document(
        _row_id(content),
        content,
        _weight(given.get("weight", 1.0)),
        _string(given, "source") if "source" in given else source,
        _tags(given.get("tags", [])),
        None if name is None else str(name),
        file,
        line,
    )


def _text(row: Row) -> Text:
    text = _string(row, "text")
    if not text.strip():
        raise BadRow("empty text")
    return Text(text)


def _completion(row: Row) -> Completion:
    pair = Completion(_string(row, "prompt"), _string(row, "completion"))
    if not pair.completion.strip():
        raise BadRow("empty completion")
    return pair


def _chat(row: Row) -> Chat:
    chat = conversation(row)
    if not any(turn["role"] == "assistant" for turn in chat.messages):
        raise BadRow("no assistant turn", ": nothing to learn from")
    return chat


def conversation(row: Row) -> Chat:
    """The turns of a row's `messages`, with its `tools`, checked."""
    messages, tools = row["messages"], row.get("tools")
    if not isinstance(messages, list):
        raise ill_typed("messages", messages, "a list of objects")
    if not messages:
        raise BadRow("empty messages")
    if tools is not None and not isinstance(tools, list):
        raise ill_typed("tools", tools, "a list")
    # Tables fill the fields that a message does not have with nulls.
    return Chat([_message(turn, f"messages[{at}]") for at, turn in enumerate(messages)], tools or None)


def _message(turn: object, where: str) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise ill_typed(where, turn, "an object")
    kept = {name: value for name, value in turn.items() if value is not None}
    if not isinstance(kept.get("role"), str):
        raise ill_typed(f"{where}.role", turn.get("role"), "a string")
    if not isinstance(kept.get("content", "" if kept.get("tool_calls") else None), str):
        raise ill_typed(f"{where}.content", turn.get("content"), "a string")
    return kept


_CONTENT: dict[str, Callable[[Row], Content]] = {"text": _text, "messages": _chat, "completion": _completion}


def _weight(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ill_typed("weight", value, "a number")
    if not 0 <= value <= _LARGEST_WEIGHT:
        raise BadRow("field `weight` must be finite and at least 0", f", not {str(value)[:24]}")
    return float(value)


def _tags(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise ill_typed("tags", value, "a list of strings")
    return tuple(dict.fromkeys(value))


def _string(row: Row, name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise ill_typed(name, value, "a string")
    return value


def _row_id(content: Content) -> bytes:
    raw = json.dumps(content.fields(), sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(raw.encode()).digest()[:16]


def ill_typed(name: str, value: object, needed: str) -> BadRow:
    """What to raise for a field that is not what is needed."""
    return BadRow(f"field `{name}` must be {needed}", f", not {_got(value)}")


def _got(value: object) -> str:
    if value is None:
        return "missing or null"
    if isinstance(value, list) and (odd := next((x for x in value if not isinstance(x, str)), None)) is not None:
        return f"a list with {_got(odd)}"
    return _JSON_NAMES.get(type(value), type(value).__name__)


def parse_json(raw: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises BadRow, also for strings that are no Unicode."""
    text = parse_utf8(raw)
    try:
        value = json.loads(text)
        if _SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise BadRow("not JSON", f": {error.msg} at {place}") from None
    except UnicodeEncodeError:
        raise BadRow("half a surrogate pair", ": an escape such as \\ud83d without its other half") from None
    except (RecursionError, ValueError) as error:
        raise BadRow("not JSON", f": {first_line(error)}") from None
    return value


def parse_utf8(raw: bytes) -> str:
    """The text, without its byte order mark. Raises BadRow with the offset of the first wrong byte."""
    try:
        return raw.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        raise BadRow("not UTF-8", f": byte {error.start} is 0x{raw[error.start]:02x}") from None


def listed(names: Iterable[str]) -> str:
    """Field names for a message."""
    shown = [f"`{name}`" for name in names]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "") or "no fields"


def first_line(error: BaseException) -> str:
    """What another library's error says, short enough for a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
