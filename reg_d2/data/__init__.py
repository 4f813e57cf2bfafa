"""Data: the catalogue, COCO files, the mapper, and the made highway scenes. Importing it registers nothing."""
