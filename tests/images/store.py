"""Writes the files and indexes of a reference folder."""

import json
from pathlib import Path


class Store:
    """A folder that is filled with small files; equal contents are kept once."""

    def __init__(self, root):
        self.root = Path(root)
        self._path_of = {}

    def put(self, path, data):
        """Writes `data` and returns the path that holds it.

        Many inputs show the same picture, so their expected pixels are equal. Returning the first path with the
        same bytes keeps the folder small; a reader takes the path from the index and does not notice.
        """
        folder = str(Path(path).parent)
        known = self._path_of.setdefault((folder, bytes(data)), path)
        if known == path:
            self.write(path, data)
        return known

    def write(self, path, data):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def write_index(self, path, sections):
        """Writes JSON with one record per line, so that a change of one value is a change of one line."""
        self.write(path, (_layout(sections, "") + "\n").encode())


def _layout(value, indent):
    inner = indent + "  "
    if isinstance(value, dict) and any(isinstance(item, (dict, list)) for item in value.values()):
        lines = [f"{inner}{json.dumps(key)}: {_layout(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(f"{inner}{json.dumps(item)}" for item in value) + f"\n{indent}]"
    return json.dumps(value)
