"""The types of the flows' parameters: what the form in the UI, and the server, check before a run exists.

Patterns are those of the library less its sentences; what a pattern cannot say, the run refuses in its first second.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hazard_store.names import CLUSTER_WORDS, HAZ_SOL_ID_PATTERN, SCHEDULER_SCHEMES
from hazard_store.rerunning import LEFT

HazSolIdText = Annotated[str, Field(pattern=f"^{HAZ_SOL_ID_PATTERN}$")]
# The server keeps a run's parameters for ever: a URL with a user or a query (a signature) must not become one. So it is
# a path, a text without `:/`, or a URL without both; pydantic's patterns cannot say what must not come (look-ahead).
_PATH, _NO_URL, _URL = "[/.~].*", "([^:]|:+[^:/])*:*", "[A-Za-z][A-Za-z0-9+.-]*:/+([^/@?]+(/[^?]*)?)?"
SourceText = Annotated[str, Field(pattern=f"^({_PATH}|{_NO_URL}|{_URL})$")]
# Where it must be named: a form that was left empty sends an empty text.
NamedSourceText = Annotated[SourceText, Field(min_length=1)]
Encoding = Literal["packed", "list"]
Partition = Literal["solution", "location"]
ClusterName = Annotated[str, Field(pattern=f"^({'|'.join(CLUSTER_WORDS)}|({'|'.join(SCHEDULER_SCHEMES)}).*)$")]
Workers = Annotated[int, Field(ge=1)]
Curves = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
WcuPerSec = Annotated[float, Field(gt=0)]

_CHUNK = "meta|stats|realisations|(stats|realisations):[0-9]{5,}-[0-9]{5,}"
ChunkName = Annotated[str, Field(pattern=f"^({_CHUNK})$")]
RerunChunkName = Annotated[str, Field(pattern=f"^({LEFT}|{_CHUNK})$")]
