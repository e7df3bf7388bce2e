"""Files that people own already, in the layouts of other projects, and the way from any of them to any."""

from fieldwright.datasets.formats.conversion import WRITABLE, Conversion, convert
from fieldwright.datasets.formats.detect import READABLE, recognise

__all__ = ["READABLE", "WRITABLE", "Conversion", "convert", "recognise"]
