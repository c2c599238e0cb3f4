"""The table of everything shown: one row for each fact, with its key, type, help and getter.

The JSON document, its JSON Schema and the reference page are made from these rows; a fact is added here once.  Keys
are dotted paths into the document.  Getters give bytes for text that a container chose and ``"max"`` for no limit; a
view makes both fit to be seen.
"""
