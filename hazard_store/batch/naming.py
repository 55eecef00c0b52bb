"""Under which id each file of a batch is stored: made from its name, or looked up in a manifest."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Formatter

from hazard_store.errors import SourceError, UsageError
from hazard_store.names import HazSolId, haz_sol_id_from_text
from hazard_store.sources import Folder, SourceFile

DEFAULT_TEMPLATE = "{stem}"
TEMPLATE_FIELDS = ("stem", "folder", "path", "number")

MANIFEST_COLUMNS = ("file", "haz_sol_id")

_NUMBER = re.compile(r"(\d+)(?!.*\d)")


def name_files(
    files: Iterable[SourceFile], template: str = DEFAULT_TEMPLATE, manifest: Mapping[str, str] | None = None
) -> dict[str, HazSolId | UsageError]:
    """Give the id of each file, or why it has none.

    Parameters
    ----------
    template : str
        Text with ``{stem}`` (the file's name without its suffix), ``{folder}`` (the name of the folder that it lies
        in), ``{path}`` (its path within the batch without the suffix) and ``{number}`` (the last number in its name).
    manifest : mapping of str to str, optional
        Relative name to id; then the template is not asked.

    Returns
    -------
    dict of str to (HazSolId or UsageError)
        By the file's name. Files that would share an id have none: one would overwrite the other.
    """
    named: dict[str, HazSolId | UsageError] = {}
    for file in files:
        try:
            named[file.name] = haz_sol_id_from_text(_text(file, template, manifest))
        except UsageError as exc:
            named[file.name] = exc
    owners: dict[HazSolId, list[str]] = {}
    for name, answer in named.items():
        if not isinstance(answer, UsageError):
            owners.setdefault(answer, []).append(name)
    for haz_sol_id, names in owners.items():
        if len(names) > 1:
            clash = UsageError(f"{haz_sol_id} would be the id of {', '.join(names)}")
            named |= dict.fromkeys(names, clash)
    return named


def check_template(template: str) -> None:
    """Refuse a template with a field that no file has.

    Raises
    ------
    UsageError
        If it has one, or its braces do not match.
    """
    try:
        fields = [(field, spec, conversion) for _, field, spec, conversion in Formatter().parse(template)]
    except ValueError as exc:
        raise UsageError(f"the id template {template!r} cannot be read: {exc}") from exc
    names = [field for field, _, _ in fields if field is not None]
    wrong = [field for field in names if field not in TEMPLATE_FIELDS]
    if wrong or any(spec or conversion for _, spec, conversion in fields):
        known = ", ".join("{" + field + "}" for field in TEMPLATE_FIELDS)
        raise UsageError(f"the id template {template!r} may hold {known}, and nothing else in braces")


def read_manifest(folder: Folder, name: str) -> dict[str, str]:
    """Read a manifest: JSON with one object, or CSV with the columns ``file`` and ``haz_sol_id``.

    Parameters
    ----------
    folder : Folder
    name : str
        Its path in the folder, or its absolute path or URL.

    Raises
    ------
    UsageError
        If it is not there, or neither.
    """
    try:
        text = folder.read_text(name)
    except (UsageError, SourceError) as exc:
        raise UsageError(f"the manifest {exc}") from exc
    if name.lower().endswith(".json"):
        return _from_json(text, name)
    rows = csv.DictReader(text.splitlines())
    if not set(MANIFEST_COLUMNS) <= set(rows.fieldnames or ()):
        raise UsageError(f"the manifest {name} needs a first line with the columns {' and '.join(MANIFEST_COLUMNS)}")
    return _unique(((row["file"] or "", row["haz_sol_id"] or "") for row in rows), name)


def _from_json(text: str, name: str) -> dict[str, str]:
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"the manifest {name} is no JSON: {exc}") from exc
    if not (isinstance(pairs, list) and all(isinstance(p, tuple) and isinstance(p[1], str) for p in pairs)):
        raise UsageError(f'the manifest {name} must be one JSON object such as {{"calc_1.hdf5": "MY-ID"}}')
    return _unique(pairs, name)


def _unique(pairs: Iterable[tuple[str, str]], manifest_name: str) -> dict[str, str]:
    manifest: dict[str, str] = {}
    for name, haz_sol_id in pairs:
        if name in manifest:
            raise UsageError(f"the manifest {manifest_name} names {name!r} twice")
        manifest[name] = haz_sol_id.strip()
    return manifest


def _text(file: SourceFile, template: str, manifest: Mapping[str, str] | None) -> str:
    if manifest is not None:
        if file.name not in manifest:
            raise UsageError("the manifest does not name it")
        return manifest[file.name]
    path = Path(file.name)
    number = _NUMBER.search(path.stem)
    if number is None and "{number}" in template:
        raise UsageError("its name holds no number, which the id is to be made from")
    return template.format(
        stem=path.stem,
        folder=Path(file.path).parent.name,
        path=path.with_suffix("").as_posix(),
        number=number[1] if number else "",
    )
