"""A robot policy in plain Python: look at the thing of the colour that the instruction names.

The arm has six joints and a camera on its wrist. The policy finds the named colour in the picture,
takes the angle between the picture's middle and the colour's centre, and turns the base (left,
right) and the wrist (up, down) by it. The way there is a minimum-jerk curve, so that each chunk of
actions starts and ends at rest. Where the colour is not to be seen, the arm stays where it is.

Pelton calls two functions: `load_model` once, and `model_inference` for each observation.
Run the file itself for a check without a server: `python model.py`.
"""

from __future__ import annotations

import math
import re
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

CHANNEL_OF = {"red": 0, "green": 1, "blue": 2}
JOINTS = 6
BASE_JOINT, WRIST_JOINT = 0, 4
JOINT_LIMIT_RAD = math.pi / 2
CHUNK_STEPS = 16
BLOCK_PX = 16
LEAST_CONTRAST = 48.0
"""How far, of 255, a block's named channel must stand above both others to count as coloured."""


@dataclass(frozen=True)
class Camera:
    """What the policy must know of the camera on the wrist."""

    horizontal_view_deg: float

    def angles_rad(self, x: float, y: float, width: int, height: int) -> tuple[float, float]:
        """Return how far right and how far down a pixel lies from the middle of the picture.

        A pinhole camera with square pixels (Hartley and Zisserman, Multiple View Geometry, 6.1).
        """
        focal_px = width / 2 / math.tan(math.radians(self.horizontal_view_deg) / 2)
        return math.atan((x - width / 2) / focal_px), math.atan((y - height / 2) / focal_px)


_camera = Camera(horizontal_view_deg=60.0)


def load_model(model_path: str, device: str) -> None:
    """Read the camera's data from the folder of this file.

    Args:
        model_path: the folder.
        device: where a network would run; this policy has none and computes on the processor.
    """
    global _camera
    _camera = Camera(**tomllib.loads((Path(model_path) / "camera.toml").read_text()))


def model_inference(obs: Mapping[str, Any]) -> Floats:
    """Plan the next chunk of actions.

    Args:
        obs: `instruction` (text that names red, green or blue), `state` (float32 [6], the joints'
            angles in radians), `image` (uint8 [height, width, 3], red first).

    Returns:
        float32 [16, 6]: the joints' target angles in radians, one row for each control step.

    Raises:
        ValueError: the observation lacks something or has it in another form.
    """
    channel = _named_channel(_get(obs, "instruction"))
    state = _checked_state(_get(obs, "state"))
    image = _checked_image(_get(obs, "image"))
    goal = state.copy()
    centre = find_colour(image, channel)
    if centre is not None:
        right_rad, down_rad = _camera.angles_rad(*centre, image.shape[1], image.shape[0])
        goal[BASE_JOINT] -= right_rad
        goal[WRIST_JOINT] -= down_rad
        np.clip(goal, -JOINT_LIMIT_RAD, JOINT_LIMIT_RAD, out=goal)
    return minimum_jerk(state, goal)


def find_colour(image: Pixels, channel: int) -> tuple[float, float] | None:
    """Find the centre of what is red (0), green (1) or blue (2) in a picture.

    The picture is averaged over blocks of 16 x 16 pixels, which removes noise and most of the work;
    each block weighs by how far its named channel stands above both others.

    Args:
        image: uint8 [height, width, 3]; the rest beyond whole blocks is not looked at.
        channel: which channel shall stand out.

    Returns:
        Column and row in pixels, or None where nothing has the colour.
    """
    rows, columns = image.shape[0] // BLOCK_PX, image.shape[1] // BLOCK_PX
    whole = image[: rows * BLOCK_PX, : columns * BLOCK_PX]
    # First down, then across: the long inner loop runs over neighbours in memory.
    down = whole.reshape(rows, BLOCK_PX, columns * BLOCK_PX * 3).sum(axis=1, dtype=np.uint16)
    block_sums = down.reshape(rows, columns, BLOCK_PX, 3).sum(axis=2, dtype=np.uint32)
    means = block_sums / float(BLOCK_PX**2)
    others = np.delete(means, channel, axis=2).max(axis=2)
    contrast = means[:, :, channel] - others
    weights = np.where(contrast >= LEAST_CONTRAST, contrast, 0.0)
    total = float(weights.sum())
    if total == 0.0:
        return None
    column = float(weights.sum(axis=0) @ np.arange(columns)) / total
    row = float(weights.sum(axis=1) @ np.arange(rows)) / total
    return (column + 0.5) * BLOCK_PX, (row + 0.5) * BLOCK_PX


def minimum_jerk(start: Floats, goal: Floats) -> Floats:
    """Return the smoothest way between two points of rest, without the start itself.

    The curve is 10 t^3 - 15 t^4 + 6 t^5 (Flash and Hogan, J. Neuroscience 5, 1985).

    Args:
        start: float32 [6], radians.
        goal: float32 [6], radians.

    Returns:
        float32 [16, 6], radians; the last row is the goal.
    """
    t = np.arange(1, CHUNK_STEPS + 1)[:, None] / CHUNK_STEPS
    share = t**3 * (10.0 - 15.0 * t + 6.0 * t**2)
    return (start + share * (goal - start)).astype(np.float32)


def _get(obs: Mapping[str, Any], name: str) -> Any:
    if not isinstance(obs, Mapping) or name not in obs:
        raise ValueError(f"obs must be a dict with instruction, state and image; {name} is missing")
    return obs[name]


def _named_channel(instruction: Any) -> int:
    if not isinstance(instruction, str):
        raise ValueError(f"instruction must be text, not {type(instruction).__name__}")
    named = re.search(r"\b(red|green|blue)\b", instruction.lower())
    if named is None:
        raise ValueError("instruction must name a colour: red, green or blue")
    return CHANNEL_OF[named[1]]


def _checked_state(state: Any) -> Floats:
    array = np.asarray(state)
    if array.shape != (JOINTS,) or array.dtype.kind not in "fiu":
        raise ValueError(f"state must be float32 [6], not {array.dtype} {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError("state must hold finite angles in radians")
    return array.astype(np.float32)


def _checked_image(image: Any) -> Pixels:
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(
            f"image must be uint8 [height, width, 3], not {array.dtype} {list(array.shape)}"
        )
    if min(array.shape[:2]) < BLOCK_PX:
        raise ValueError(
            f"image must have at least {BLOCK_PX} x {BLOCK_PX} pixels, not {list(array.shape)}"
        )
    return array


def _check() -> None:
    """Show the policy a red square at the upper right and print what it does and how fast."""
    load_model(str(Path(__file__).parent), "cpu")
    image = np.full((480, 640, 3), 90, np.uint8)
    image[96:144, 480:528] = (220, 30, 30)
    obs = {
        "instruction": "look at the red cube",
        "state": np.zeros(JOINTS, np.float32),
        "image": image,
    }
    actions = model_inference(obs)
    assert actions.shape == (CHUNK_STEPS, JOINTS)
    assert actions.dtype == np.float32
    assert actions[-1, BASE_JOINT] < 0 < actions[-1, WRIST_JOINT], "turns right and up"
    rounds = 200
    started_s = time.perf_counter()
    for _ in range(rounds):
        assert model_inference(obs).tobytes() == actions.tobytes()
    each_ms = (time.perf_counter() - started_s) / rounds * 1000
    print(f"last action, radians: {np.round(actions[-1], 3)}")
    print(f"{each_ms:.2f} ms for a picture of 480 x 640; {rounds} runs gave the same bits")


if __name__ == "__main__":
    _check()
