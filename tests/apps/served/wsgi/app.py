"""A WSGI application without a framework: it answers with what it was told. ``WHO`` is the variable that it knows people by."""

import json
import os
from urllib.parse import parse_qs, quote, unquote

WHO = os.environ.get("WHO", "REMOTE_USER")


def application(environ, start_response):
    length = 0
    while chunk := environ["wsgi.input"].read(1 << 16):
        length += len(chunk)
    told = {
        "user": environ.get(WHO, ""),
        "name": unquote(environ.get("HTTP_X_WECOM_NAME", "")),
        "length": length,
        "environ": {name: quote(value, encoding="latin-1") for name, value in environ.items() if isinstance(value, str)},
    }
    status = parse_qs(environ["QUERY_STRING"]).get("status", ["200"])[0]
    start_response(f"{status} As Asked", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
