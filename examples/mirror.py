"""Copies an index into a folder that any web server can serve, for machines without a way out.

BASE=https://vllm-wheels.s3.us-west-2.amazonaws.com
python examples/mirror.py $BASE/whl/nightly/cu121/vllm/ FOLDER
python -m http.server --directory FOLDER
pip install --index-url http://MIRROR:8000/ --extra-index-url https://YOUR-PYPI/simple vllm==VERSION

A file that is there already is not fetched again. One whose hash is not what the index says is
refused, and the mirror's page lists none that it does not have.
"""

import hashlib
import html
import re
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import List

LINK = re.compile(r'<a href="([^"#]+)#sha256=([0-9a-f]{64})"')


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        content: bytes = answer.read()
        return content


def mirror(index: str, folder: Path) -> List[str]:
    """Returns the names of the files that the folder has now."""
    project = folder / "vllm"
    project.mkdir(parents=True, exist_ok=True)
    names, links = [], []
    for href, sha256 in LINK.findall(html.unescape(fetch(index).decode())):
        url = urllib.parse.urljoin(index, href)
        name = urllib.parse.unquote(url.rpartition("/")[2])
        path = project / name
        if not path.exists():
            content = fetch(url)
            if hashlib.sha256(content).hexdigest() != sha256:
                sys.exit(f"{url} is not what the index says: its SHA-256 is another one")
            path.write_bytes(content)
        names.append(name)
        links.append(f'<a href="{urllib.parse.quote(name)}#sha256={sha256}">{name}</a><br>\n')
    page = "<!DOCTYPE html>\n<title>vllm</title>\n" + "".join(links)
    (project / "index.html").write_text(page, encoding="utf-8")
    return names


if __name__ == "__main__":
    print("\n".join(mirror(sys.argv[1], Path(sys.argv[2]))))
