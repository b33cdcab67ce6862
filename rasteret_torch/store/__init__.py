"""placeholder docstring, replaced by the folder's author."""
