"""The policy example: it turns towards the named colour, smoothly, and says what it cannot use."""

import importlib.util
import math
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "models" / "policy"
BASE, WRIST = 0, 4
SQUARES = {"red": ((220, 30, 30), 96, 480), "blue": ((20, 30, 200), 384, 64)}


@pytest.fixture
def policy():
    spec = importlib.util.spec_from_file_location("example_policy", FOLDER / "1" / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["example_policy"] = module
    spec.loader.exec_module(module)
    module.load_model(str(FOLDER / "1"), "cpu")
    yield module
    del sys.modules["example_policy"]


@pytest.fixture
def obs():
    image = np.full((480, 640, 3), 90, np.uint8)
    for colour, row, column in SQUARES.values():
        image[row : row + 48, column : column + 48] = colour
    return {
        "instruction": "look at the red cube",
        "state": np.array([0.1, 0.2, -0.3, 0.4, 0.0, 1.0], np.float32),
        "image": image,
    }


def test_it_turns_by_the_angle_at_which_the_camera_sees_the_colour(policy, obs):
    actions = policy.model_inference(obs)
    assert (actions.shape, actions.dtype) == ((16, 6), np.float32)
    focal_px = 320 / math.tan(math.radians(30))  # 60 degrees across 640 pixels
    turned = actions[-1] - obs["state"]
    assert turned[BASE] == pytest.approx(-math.atan((504 - 320) / focal_px), abs=1e-6)
    assert turned[WRIST] == pytest.approx(-math.atan((120 - 240) / focal_px), abs=1e-6)
    np.testing.assert_array_equal(np.delete(turned, [BASE, WRIST]), 0)
    np.testing.assert_allclose(actions[7] - obs["state"], turned / 2, atol=1e-6)


def test_the_instruction_decides(policy, obs):
    red = policy.model_inference(obs)
    blue = policy.model_inference(obs | {"instruction": "now the BLUE one, please"})
    assert red[-1, BASE] < obs["state"][BASE] < blue[-1, BASE]
    assert blue[-1, WRIST] < obs["state"][WRIST] < red[-1, WRIST]


def test_what_is_not_to_be_seen_leaves_the_arm_where_it_is(policy, obs):
    actions = policy.model_inference(obs | {"instruction": "the green one"})
    np.testing.assert_array_equal(actions, np.tile(obs["state"], (16, 1)))


def test_the_way_is_a_minimum_jerk_curve_that_starts_and_ends_at_rest(policy):
    start, goal = np.zeros(6, np.float32), np.ones(6, np.float32)
    way = np.vstack([start, policy.minimum_jerk(start, goal)])[:, 0]
    steps = np.diff(way)
    assert way[-1] == 1.0
    assert way[8] == pytest.approx(0.5)
    assert (steps > 0).all()
    np.testing.assert_allclose(steps, steps[::-1], atol=1e-6)
    assert steps.argmax() in (7, 8)
    assert steps[0] < 0.03 * steps.max()


def test_joints_stay_within_their_limits(policy, obs):
    actions = policy.model_inference(obs | {"state": np.full(6, -1.5, np.float32)})
    assert actions[-1, BASE] == pytest.approx(-math.pi / 2)


@pytest.mark.parametrize("shape", [(480, 640, 3), (1080, 1920, 3), (17, 31, 3), (16, 16, 3)])
def test_any_size_of_picture_is_read(policy, obs, shape):
    image = np.zeros(shape, np.uint8)
    image[:, :, 0] = 255
    assert policy.model_inference(obs | {"image": image}).shape == (16, 6)


def test_the_same_observation_gives_the_same_bits_and_is_left_alone(policy, obs):
    obs["image"].flags.writeable = False
    obs["state"].flags.writeable = False
    first = policy.model_inference(obs).tobytes()
    assert {policy.model_inference(obs).tobytes() for _ in range(5)} == {first}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"instruction": 3}, "instruction must be text, not int"),
        ({"instruction": "pick up the cube"}, "must name a colour: red, green or blue"),
        ({"instruction": "a bored robot"}, "must name a colour"),
        ({"state": np.zeros(5, np.float32)}, r"state must be float32 \[6\], not float32 \[5\]"),
        ({"state": np.array(list("abcdef"))}, "state must be float32"),
        ({"state": np.full(6, np.nan, np.float32)}, "finite angles"),
        ({"image": np.zeros((480, 640), np.uint8)}, r"image must be uint8 \[height, width, 3\]"),
        ({"image": np.zeros((480, 640, 4), np.uint8)}, r"not uint8 \[480, 640, 4\]"),
        ({"image": np.zeros((480, 640, 3))}, "not float64"),
        ({"image": np.zeros((8, 640, 3), np.uint8)}, "at least 16 x 16 pixels"),
    ],
)
def test_what_it_cannot_use_is_told_in_a_sentence(policy, obs, change, words):
    with pytest.raises(ValueError, match=words):
        policy.model_inference(obs | change)


@pytest.mark.parametrize("name", ["instruction", "state", "image"])
def test_what_is_missing_is_named(policy, obs, name):
    del obs[name]
    with pytest.raises(ValueError, match=f"{name} is missing"):
        policy.model_inference(obs)


def test_the_camera_is_read_from_the_folder(policy, obs, tmp_path):
    (tmp_path / "camera.toml").write_text("horizontal_view_deg = 120.0\n")
    narrow = policy.model_inference(obs)
    policy.load_model(str(tmp_path), "cpu")
    wide = policy.model_inference(obs)
    assert wide[-1, BASE] < narrow[-1, BASE] < obs["state"][BASE]


def test_the_declaration_says_what_the_policy_takes_and_gives(policy, obs):
    declared = tomllib.loads((FOLDER / "model.toml").read_text())
    assert declared["runtime"] == "python"
    assert declared["objects"] is True
    inputs = {row["name"]: (row["datatype"], row["shape"]) for row in declared["inputs"]}
    assert inputs == {
        "instruction": ("BYTES", []),
        "state": ("FP32", list(obs["state"].shape)),
        "image": ("UINT8", [-1, -1, 3]),
    }
    (action,) = declared["outputs"]
    assert action["shape"] == list(policy.model_inference(obs).shape)


def test_the_file_checks_itself_without_a_server():
    done = subprocess.run(
        [sys.executable, FOLDER / "1" / "model.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "200 runs gave the same bits" in done.stdout
