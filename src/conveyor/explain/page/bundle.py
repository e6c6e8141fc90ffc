"""Bundles modules, style and data into one HTML file, which fetches nothing and runs nothing else.

Each ES module becomes a function that is called once, after those that it imports, so the names of modules do not
collide. The content security policy has the digests of the script and the style, so a browser runs only these, whatever
text the page contains.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from string import Template
from typing import Any

from conveyor.errors import BadInput
from conveyor.targets import js

IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.-]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const|let) (\w+))", re.MULTILINE)
SHARED = ("arithmetic.js", "vocabulary.js")  # modules that exports have, too
LEFT = re.compile(r"^(import|export)\b.*$", re.MULTILINE)  # imports and exports in unsupported forms


def read(name: str) -> str:
    """A file of the page. Raises BadInput if it cannot be read."""
    package = js.__name__ if name in SHARED else "conveyor.explain.page.web"
    file = resources.files(package) / name
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"conveyor is not wholly installed: {file} cannot be read ({error.strerror}); "
            "pip install --force-reinstall conveyor"
        ) from None


def script(entry: str, given: Mapping[str, str] | None = None) -> str:
    """The module `entry` and all its imports as one script. `given`: generated modules, by name."""
    made: dict[str, str] = {}
    _join(entry, given or {}, made, ())
    return "\n".join(made.values())


def _join(name: str, given: Mapping[str, str], made: dict[str, str], above: tuple[str, ...]) -> None:
    if name in made:
        return
    if name in above:
        raise ValueError(f"modules import each other in a circle: {' -> '.join((*above, name))}")
    text = given[name] if name in given else read(name)
    for _, other in IMPORT.findall(text):
        _join(other, given, made, (*above, name))
    body = IMPORT.sub(lambda found: f"const {{{_renamed(found[1])}}} = {_variable(found[2])};\n", text)
    names = EXPORT.findall(body)
    body = EXPORT.sub("", body)
    if (left := LEFT.search(body)) is not None:
        raise ValueError(f"{name}: {left[0]!r} is not a supported form of import or export")
    made[name] = f"const {_variable(name)} = (() => {{\n{body}return {{ {', '.join(names)} }};\n}})();\n"


def _renamed(names: str) -> str:
    return names.replace(" as ", ": ")


def _variable(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name.removesuffix(".js"))


def as_json(value: Any) -> str:
    """JSON for an element of the page, with < and > escaped, so that it cannot end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return (
        text.replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    )


def document(title: str, code: str, style: str, data: Any, blobs: Mapping[str, bytes], extra: str = "") -> str:
    """The whole page. `blobs`: bytes by the id of their element. `extra`: further directives of the content policy."""
    if "</script" in code.lower() or "<!--" in code or "</style" in style.lower():
        raise ValueError("a script or style of the page contains a tag that would end its element")
    policy = f"default-src 'none'; script-src {_digest(code)}; style-src {_digest(style)}; img-src data:; "
    policy += f"base-uri 'none'; form-action 'none'{extra}"
    elements = [f'<script type="application/json" id="data">{as_json(data)}</script>']
    for name, blob in blobs.items():
        text = base64.b64encode(blob).decode()
        elements.append(f'<script type="application/octet-stream" id="{html.escape(name)}">{text}</script>')
    return Template(read("index.html")).substitute(
        policy=html.escape(policy, quote=True),
        title=html.escape(title),
        style=style,
        script=code,
        data="\n".join(elements),
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
