"""Checks the links within a built site, with its anchor: `python docs/_ext/links.py docs/_build/html`."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LINKS = {"a": "href", "link": "href", "img": "src", "script": "src", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a page links to, and the anchors that it has."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = set(), {""}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Each element."""
        given = dict(attrs)
        self.anchors |= {given.get("id") or "", given.get("name") or ""}
        if given.get(LINKS.get(tag)):
            self.links.add(given[LINKS[tag]])


def broken(site: Path) -> list[str]:
    """The links that lead nowhere, each with its page."""
    whole_programs = {"live", "_static"}
    files = [path for path in sorted(site.rglob("*.html")) if not whole_programs & set(path.relative_to(site).parts)]
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in files}
    found = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[goal].anchors if goal in pages else {unquote(parts.fragment)}
            if not goal.exists() or unquote(parts.fragment) not in anchors:
                found.append(f"{path.relative_to(site.resolve())}: {link}")
    print(f"{len(pages)} pages, {sum(len(page.links) for page in pages.values())} links, {len(found)} broken")
    return found


if __name__ == "__main__":
    missing = broken(Path(sys.argv[1]))
    print("\n".join(missing))
    sys.exit(bool(missing))
