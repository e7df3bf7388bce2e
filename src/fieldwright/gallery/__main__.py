"""``python -m fieldwright.gallery`` names the methods that `fieldwright.gallery.reproduce` knows, one a line."""

from fieldwright.gallery import GALLERY

print(*GALLERY, sep="\n")
