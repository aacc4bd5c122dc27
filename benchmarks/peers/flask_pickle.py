"""The server that people write by hand: Flask, its own server, pickles both ways.

    python flask_pickle.py PORT [MODEL]

Without the path of an ONNX model it runs the model of the scenario `payload`.

Connections are kept alive (HTTP/1.1), which Flask's server does not do unless told, so that no row
pays for opening connections.
"""

from __future__ import annotations

import logging
import pickle
import sys

import dict_models
from flask import Flask, Response, request
from werkzeug.serving import WSGIRequestHandler

app = Flask(__name__)
model = dict_models.chosen(sys.argv[2:])


@app.post("/infer")
def infer() -> Response:
    output = model(pickle.loads(request.get_data(cache=False)))
    answer = pickle.dumps({"status": "ok", "output": output}, protocol=5)
    return Response(answer, content_type="application/octet-stream")


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
