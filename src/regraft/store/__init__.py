"""Lines and versions on disk. Importing this imports neither torch nor numpy: they come with the first tensor."""

from regraft.store.ledger import Event
from regraft.store.line import Line
from regraft.store.reports import Damage, DiskUse, GcReport, RowUse, Touch, VerifyReport
from regraft.store.versions import CorpusUse, Draft, TensorRef, Version

__all__ = [
    "CorpusUse",
    "Damage",
    "DiskUse",
    "Draft",
    "Event",
    "GcReport",
    "Line",
    "RowUse",
    "TensorRef",
    "Touch",
    "Version",
    "VerifyReport",
]
