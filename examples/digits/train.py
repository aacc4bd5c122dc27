"""Train a small convolutional network on handwritten digits and export it as one ONNX file.

    python examples/digits/train.py

The pictures are scikit-learn's `load_digits`: 1,797 pictures of 8 x 8 pixels with values 0 to 16,
reduced from the test set of the UCI "Optical Recognition of Handwritten Digits" data (Alpaydin and
Kaynak, 1998). They come with the library, so nothing is downloaded.

The exported model takes pictures exactly as they are stored:

    image           UINT8  [batch, 8, 8]   pixel values 0 to 16
    probabilities   FP32   [batch, 10]     one probability for each digit, sum 1

Scaling and softmax are inside the graph. Whole pixels instead of floats make a request four times
smaller, and a client that scales its pictures by mistake gets a refusal instead of a wrong digit.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

LABELS = [str(digit) for digit in range(10)]
LARGEST_PIXEL = 16
TEST_SHARE = 0.2
REQUIRED_ACCURACY = 0.98
BATCH_ROWS = 64
DEFAULT_OUT = Path(__file__).parents[1] / "models" / "digits" / "1" / "model.onnx"

Pictures = npt.NDArray[np.uint8]
Digits = npt.NDArray[np.int64]


class DigitNet(nn.Module):
    """Two convolutions, a pool, a third convolution, and one linear layer: 19,258 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(1, 16), *_convolution(16, 32), nn.MaxPool2d(2), *_convolution(32, 32)
        )
        self.classify = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 4 * 4, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return one score per digit, float32 [rows, 10], for uint8 [rows, 8, 8] pictures."""
        scaled = image.to(torch.float32).unsqueeze(1) / LARGEST_PIXEL
        scores: torch.Tensor = self.classify(self.features(scaled))
        return scores


class Classifier(nn.Module):
    """A trained network as it is served: probabilities instead of scores."""

    def __init__(self, network: DigitNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return float32 [rows, 10] probabilities for uint8 [rows, 8, 8] pictures."""
        return torch.softmax(self.network(image), dim=1)


def _convolution(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def split_digits(seed: int) -> tuple[Pictures, Pictures, Digits, Digits]:
    """Return training and test pictures, then training and test digits; each digit in proportion.

    Args:
        seed: the same seed gives the same split.

    Returns:
        uint8 [rows, 8, 8] pictures twice, int64 [rows] digits twice.
    """
    data = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        data.images.astype(np.uint8),
        data.target.astype(np.int64),
        test_size=TEST_SHARE,
        stratify=data.target,
        random_state=seed,
    )
    return train_x, test_x, train_y, test_y


def shifted(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move every picture by -1, 0 or 1 pixels each way: the same digit, written elsewhere."""
    padded = nn.functional.pad(pictures, (1, 1, 1, 1))
    moves = torch.randint(0, 3, (len(pictures), 2), generator=generator)
    rows = moves[:, 0, None] + torch.arange(8)
    columns = moves[:, 1, None] + torch.arange(8)
    which = torch.arange(len(pictures))
    return padded[which[:, None, None], rows[:, :, None], columns[:, None, :]]


def train(pictures: Pictures, digits: Digits, epochs: int, seed: int) -> DigitNet:
    """Fit a new network to uint8 [rows, 8, 8] pictures and int64 [rows] digits."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(pictures), torch.from_numpy(digits)
    network = DigitNet().train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = epochs * -(-len(x) // BATCH_ROWS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    for epoch in range(1, epochs + 1):
        total_loss = 0.0
        for rows in torch.randperm(len(x), generator=generator).split(BATCH_ROWS):
            loss = nn.functional.cross_entropy(network(shifted(x[rows], generator)), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item() * len(rows)
        print(f"epoch {epoch:2d} of {epochs}: training loss {total_loss / len(x):.4f}", flush=True)
    return network.eval()


def accuracy(model: nn.Module, pictures: Pictures, digits: Digits) -> float:
    """Return the share of uint8 [rows, 8, 8] pictures whose likeliest digit is the right one."""
    with torch.inference_mode():
        found = model(torch.from_numpy(pictures)).argmax(dim=1).numpy()
    return float((found == digits).mean())


def export(classifier: Classifier, out: Path) -> None:
    """Write the model as one checked ONNX file; `out` is replaced only by a whole file."""
    model = _to_onnx(classifier)
    _forget_where_it_was_written(model)
    model.doc_string = "Handwritten digits, 8 x 8 pixels of 0 to 16, to probabilities of 0 to 9."
    onnx.helper.set_model_props(model, {"labels": json.dumps(LABELS)})
    onnx.checker.check_model(model, full_check=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.unfinished")
    onnx.save_model(model, unfinished)
    unfinished.replace(out)


def _to_onnx(classifier: Classifier) -> onnx.ModelProto:
    # The exporter tells of operators of torchvision, which is not used here, and of Python's own.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            classifier,
            (torch.zeros(2, 8, 8, dtype=torch.uint8),),
            dynamo=True,
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            external_data=False,
            verbose=False,
        )
    assert program is not None, "the exporter returns None only for old options"
    return program.model_proto


def _forget_where_it_was_written(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes: stack traces with the paths of the machine that exported."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")


def verify(classifier: Classifier, path: Path, pictures: Pictures) -> float:
    """Run the file in ONNX Runtime on batches of 1, 2 and all pictures, against torch.

    Returns:
        The largest difference between two probabilities.

    Raises:
        AssertionError: they differ by more than 1e-5.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    largest = 0.0
    for rows in (1, 2, len(pictures)):
        (served,) = session.run(["probabilities"], {"image": pictures[:rows]})
        with torch.inference_mode():
            trained = classifier(torch.from_numpy(pictures[:rows])).numpy()
        np.testing.assert_allclose(served, trained, rtol=0, atol=1e-5)
        largest = max(largest, float(np.abs(served - trained).max()))
    return largest


def main() -> int:
    """Train, judge, export, verify; exit code 1 when the test accuracy is too low."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="the ONNX file to write")
    parser.add_argument("--epochs", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args()
    started_s = time.perf_counter()
    # The network is too small to share out; one thread is quicker, and adds in the same order.
    torch.set_num_threads(1)

    train_x, test_x, train_y, test_y = split_digits(options.seed)
    print(f"{len(train_x)} pictures to learn from, {len(test_x)} held out for the test")
    network = train(train_x, train_y, options.epochs, options.seed)
    print(f"trained in {time.perf_counter() - started_s:.1f} s")

    reached = accuracy(network, test_x, test_y)
    print(f"test accuracy {reached:.2%} on {len(test_x)} pictures")
    if reached < REQUIRED_ACCURACY:
        print(f"too low: at least {REQUIRED_ACCURACY:.0%} is needed; nothing was written")
        return 1

    classifier = Classifier(network).eval()
    export(classifier, options.out)
    difference = verify(classifier, options.out, test_x)
    print(
        f"wrote {options.out} ({options.out.stat().st_size / 1000:.0f} kB); "
        f"ONNX Runtime agrees with torch within {difference:.1e}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
