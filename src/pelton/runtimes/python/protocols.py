"""What a `model.py` holds: either two functions or one class.

The two functions, `LoadModel` and `ModelInference`:

    def load_model(model_path, device):
        global policy
        policy = Policy.from_file(f"{model_path}/weights.npz")

    def model_inference(obs):
        return policy.act(obs["image"], obs["state"], obs["instruction"])

or a class of any name, `PythonModel`, which is made without arguments:

    class Policy:
        def load(self, path, device):
            self.weights = numpy.load(f"{path}/weights.npz")

        def predict(self, inputs):
            return {"action": inputs["state"] @ self.weights["w"]}

A module, or a class, whose attribute `concurrent` is True may be run by several threads at once.
"""

from __future__ import annotations

from typing import Protocol

from pelton.messages import Value


class LoadModel(Protocol):
    """`load_model` of a `model.py`; called once, before any request."""

    def __call__(self, model_path: str, device: str, /) -> object:
        """Load the model.

        Args:
            model_path: the folder that holds `model.py`.
            device: the device as the settings name it, such as `cpu`, `cuda:0` or `auto`.

        Returns:
            The model, for a `model_inference` that takes it; else nothing.
        """
        ...


class ModelInference(Protocol):
    """`model_inference` of a `model.py`; called for each request.

    A function of two arguments is called with what `load_model` returned, and then `obs`.
    """

    def __call__(self, obs: dict[str, Value], /) -> Value:
        """Compute the answer to one request.

        Args:
            obs: input name -> array or plain value. Arrays may be read-only; copy to change one.

        Returns:
            An array, which becomes the one declared output or else `output`; a dict of outputs
            by name; or any plain value, as the value of `output`.
        """
        ...


class PythonModel(Protocol):
    """The class of a `model.py`."""

    def load(self, path: str, device: str, /) -> object:
        """Load the model; as `LoadModel`, and what it returns is not used."""
        ...

    def predict(self, inputs: dict[str, Value], /) -> Value:
        """Compute the answer to one request; as `ModelInference`."""
        ...
