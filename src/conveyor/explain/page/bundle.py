"""One HTML file of the modules, the style and the data: nothing is left to be fetched, and nothing else may run.

Each ES module becomes a function that is called once, in an order in which it comes after those it imports; so names
of one module do not meet those of another. The policy names the digest of the script and of the style, so that a
browser runs these and no other, wherever text on the page may come from.
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

IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.-]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const|let) (\w+))", re.MULTILINE)
LEFT = re.compile(r"^(import|export)\b.*$", re.MULTILINE)  # what is written in a way that is not joined


def read(name: str) -> str:
    """A file of the page. Raises BadInput if it is not there."""
    file = resources.files("conveyor.explain.page") / "web" / name
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"conveyor is not wholly installed: {file} cannot be read ({error.strerror}); "
            "pip install --force-reinstall conveyor"
        ) from None


def script(entry: str, given: Mapping[str, str] | None = None) -> str:
    """The module `entry` and all that it imports as one script. `given`: modules that are no files, by name."""
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
        raise ValueError(f"{name}: {left[0]!r} is not one of the forms that are joined")
    made[name] = f"const {_variable(name)} = (() => {{\n{body}return {{ {', '.join(names)} }};\n}})();\n"


def _renamed(names: str) -> str:
    return names.replace(" as ", ": ")


def _variable(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name.removesuffix(".js"))


def as_json(value: Any) -> str:
    """For an element of the page: no < or > that could end it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return (
        text.replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    )


def document(title: str, code: str, style: str, data: Any, blobs: Mapping[str, bytes], extra: str = "") -> str:
    """The whole page. `blobs`: bytes by the id of their element. `extra`: what else may be fetched, from a server."""
    if "</script" in code.lower() or "<!--" in code or "</style" in style.lower():
        raise ValueError("the page's own files hold what would end their element")
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
