"""The table of everything shown: one row for each fact, with its key, type, help and getter.

The JSON document, its JSON Schema and the reference page are made from these rows; a fact is added here once.  Keys
are dotted paths into the document.  Getters give bytes for text that a container chose and ``"max"`` for no limit; a
view makes both fit to be seen.
"""

from nsinspect.fields.change import CHANGE
from nsinspect.fields.container import CONTAINER
from nsinspect.fields.finding import FINDING
from nsinspect.fields.host import HOST, PROCESS
from nsinspect.fields.namespace import NAMESPACE_ROWS
from nsinspect.fields.network import NETWORK
from nsinspect.fields.power import POWER
from nsinspect.fields.row import Field, Metric
from nsinspect.fields.scrape import SCRAPE, Scrape

__all__ = [
    "CHANGE",
    "CONTAINER",
    "FINDING",
    "HOST",
    "NAMESPACE_ROWS",
    "NETWORK",
    "POWER",
    "PROCESS",
    "SCRAPE",
    "Field",
    "Metric",
    "Scrape",
]
