"""Writes Sources/DiffusionModels/Tokenizers/HTMLEntityTable.swift from Python's html.entities.html5 (the HTML5 standard's list).

  python3 tools/html_entities.py > Sources/DiffusionModels/Tokenizers/HTMLEntityTable.swift
"""
import textwrap
from html.entities import html5

full = [f"{n[:-1]}={'+'.join(f'{ord(c):X}' for c in html5[n])}" for n in sorted(html5) if n.endswith(";")]
legacy = [n for n in sorted(html5) if not n.endswith(";")]
wrap = lambda words: "\n".join("    " + line for line in textwrap.wrap(" ".join(words), 104, break_long_words=False, break_on_hyphens=False))
print(f'''// Made by tools/html_entities.py from the list of the HTML5 standard; change that, not this.

extension HTMLEntities {{
  /// Names that need a semicolon, with the scalars they stand for in hexadecimal.
  static let namesAndScalars = """
{wrap(full)}
    """

  /// Names that HTML also knows without their semicolon.
  static let namesWithoutSemicolon = """
{wrap(legacy)}
    """
}}''')
