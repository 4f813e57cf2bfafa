"""Other tools' annotations to COCO: class names, boxes and masks are kept, and a box never becomes a mask."""

from .builder import CocoBuilder, ConversionError
from .formats import FORMATS, convert

__all__ = ["FORMATS", "CocoBuilder", "ConversionError", "convert"]
