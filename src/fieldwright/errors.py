"""The errors Fieldwright raises on purpose.

Each carries one sentence: what is wrong, where, and what is allowed. The command line prints the sentence and exits
with code 2; anything else that escapes is a defect of ours and keeps its traceback.
"""


class FieldwrightError(Exception):
    """Root of every error that a user's input or machine can cause."""


class InputError(FieldwrightError, ValueError):
    """An array, grid or argument of a call that cannot be used: shape, type, NaN, unknown name."""


class RecipeError(FieldwrightError, ValueError):
    """A recipe key or value that is not allowed, or a run directory that belongs to another recipe."""


class DataError(FieldwrightError, ValueError):
    """A file or dataset that is missing, damaged, incomplete or not in a format we read."""


class SolverError(FieldwrightError, ArithmeticError):
    """A system that is not what the chosen method needs, or a solve that did not reach its tolerance."""


class TrainingError(FieldwrightError, ArithmeticError):
    """Training that cannot go on, such as a loss that is no longer finite."""


class StorageError(FieldwrightError, OSError):
    """A write that failed: full disk, no permission, vanished directory."""


class ClusterError(FieldwrightError, ConnectionError):
    """Workers that cannot be reached, go away or keep dying."""
