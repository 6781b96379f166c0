"""What this card can do at most: a large matrix product, a copy within its memory."""

import torch

from gpu.device import device, seconds
from gpu.report import Report, Sizes

# Dense bfloat16 and memory of the cards by their datasheets; other H100s are slower.
DATASHEET = {"H100 80GB HBM3": (989e12, 3.35e12), "H200": (989e12, 4.8e12)}


def matrix_rate(small: bool) -> float:
    """Operations a second of a square matrix product on random data."""
    size = 512 if small else 8192
    one, other = torch.randn(2, size, size, device=device(), dtype=torch.bfloat16)
    return 2 * size**3 / seconds(lambda: one @ other, budget=0.5)


def copy_rate(small: bool) -> float:
    """Bytes a second of a copy from the device to itself, those read and those written."""
    source = torch.empty(2**24 if small else 2**32, device=device(), dtype=torch.uint8).random_()
    target = torch.empty_like(source)
    return 2 * len(source) / seconds(lambda: target.copy_(source), budget=0.5)


def measure(report: Report, sizes: Sizes) -> None:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    matrix, memory = next((rates for card, rates in DATASHEET.items() if card in name), (None, None))
    product = "512³" if sizes.small else "8192³"
    figures = (
        (f"matrix product in bfloat16, {product}", matrix_rate, matrix, "TFLOP/s"),
        ("copy within the device, read and written", copy_rate, memory, "TB/s"),
    )
    for figure, rate, datasheet, unit in figures:
        with report.guard(figure):
            limit = None if datasheet is None else datasheet / 1e12
            said = "datasheet" if datasheet else ""
            report.row(figure, rate(sizes.small) / 1e12, unit, limit=limit, limit_is=said)
