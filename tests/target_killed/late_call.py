"""A program that sends one HTTP call after a while: one that was under way when its sender gave up."""

from __future__ import annotations

import http.client
import json
import sys
import time
from urllib.parse import urlsplit


def main() -> None:
    """Standard input has the call, as JSON."""
    call = json.load(sys.stdin)
    time.sleep(call["seconds"])
    url = urlsplit(call["url"])
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
    connection.request(
        call["method"], url.path + (f"?{url.query}" if url.query else ""), call["body"], headers=call["headers"]
    )
    connection.getresponse().read()
    connection.close()


if __name__ == "__main__":
    main()
