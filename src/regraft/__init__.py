"""regraft keeps trained models current:

an update learns the new, keeps the old, carries evidence and can be rolled back.
"""

__version__ = "0.1.0"
