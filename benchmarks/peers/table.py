"""Who is measured in `small` and `startup`: one line for each way to set a server up."""

from __future__ import annotations

from peers import launch, triton_launch

PEERS: dict[str, launch.Start] = {
    "pelton": launch.pelton,
    "triton": triton_launch.triton,
    "triton-lean": triton_launch.triton_lean,
    "mosec": launch.mosec,
    "fastapi": launch.fastapi,
    "fastapi-async": launch.fastapi_async,
    "mlserver": launch.mlserver,
    "mlserver-0": launch.mlserver_0,
    "litserve": launch.litserve,
    "bentoml": launch.bentoml,
    "flask": launch.flask,
    "websocket": launch.websocket,
}

PACKAGES = {
    "triton": ("nvidia-pytriton",),
    "mosec": ("mosec",),
    "fastapi": ("fastapi", "uvicorn", "pydantic"),
    "mlserver": ("mlserver",),
    "litserve": ("litserve",),
    "bentoml": ("bentoml",),
    "flask": ("flask", "werkzeug"),
    "websocket": ("websockets", "msgpack", "msgpack-numpy"),
}
"""The packages whose versions a result names, by environment."""
