from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from topcoat.cost.pricing import GpuPrice, Rate, find_gpu, gpus_from_text, load_prices, rate_of
from topcoat.errors import UsageError

GPU = GpuPrice(
    name="toy",
    bf16_tflops=100.0,
    bf16_source="a datasheet",
    usd_per_hour=3.6,
    usd_source="a list",
    date=datetime.date(2026, 1, 2),
)


def test_every_embedded_price_has_its_sources_and_a_day() -> None:
    prices = load_prices()
    assert {"h100", "a100", "rtx5090", "rtx4090", "rtx3090", "l40s", "a10", "l4", "t4"} <= set(prices)
    for price in prices.values():
        assert price.bf16_source.startswith("https://") and price.usd_source.startswith("https://")
        assert datetime.date(2026, 1, 1) < price.date <= datetime.date(2027, 1, 1)
        assert 60 < price.bf16_tflops < 5000 and 0.1 < price.usd_per_hour < 20


def test_arithmetic() -> None:
    seconds = rate_of(GPU, None, 0.5).seconds(200.0)
    assert seconds == pytest.approx(4.0) == rate_of(GPU, None).seconds(160.0)
    price = rate_of(GPU, None).image("toy", 4, seconds, "computed")
    assert price["usd"] == pytest.approx(4 / 3600 * 3.6) and price["usd_per_million"] == pytest.approx(4000)
    assert rate_of(GPU, None).source == "cited: a list, 2026-01-02"
    assert (rate_of(GPU, 7.0).usd_per_hour, rate_of(GPU, 7.0).source) == (7.0, "given")


@pytest.mark.parametrize(("text", "expected"), [("h100:8", ("h100", 8)), ("a100", ("a100", 1))])
def test_gpus_from_text(text: str, expected: tuple[str, int]) -> None:
    assert gpus_from_text(text) == expected


@pytest.mark.parametrize("text", ["h100:", "h100:0", "h100:-1", "h100:two", ":8", ""])
def test_unreadable_gpus(text: str) -> None:
    with pytest.raises(UsageError, match="write a name and a number such as h100:8"):
        gpus_from_text(text)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="no GPU is called 'h9' in the price table; use one of: h100"):
        find_gpu("h9", load_prices())
    for share in (0.0, 1.1):
        with pytest.raises(UsageError, match="utilisation"):
            rate_of(GPU, None, share)
    with pytest.raises(UsageError, match="the speed is unknown"):
        Rate(1.0, "given").seconds(1.0)
    with pytest.raises(UsageError, match="no price was given"):
        rate_of(None, None)
    with pytest.raises(UsageError, match="is not a price"):
        rate_of(None, -1.0)


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        ("date", "gpus.toy.date: is missing"),
        ("usd_source", "gpus.toy.usd_source: is missing"),
        ("usd_per_hour", "gpus.toy.usd_per_hour: is missing"),
        ("", "gpus.toy.usd_per_hour: input should be greater than 0"),
    ],
)
def test_a_price_file_that_lacks_something(tmp_path: Path, drop: str, message: str) -> None:
    lines = {
        "name": '"Toy"',
        "bf16_tflops": "1.0",
        "bf16_source": '"x"',
        "usd_per_hour": "0.0" if not drop else "1.0",
        "usd_source": '"y"',
        "date": "2026-01-02",
    }
    text = "\n".join(f"{key} = {value}" for key, value in lines.items() if key != drop)
    (tmp_path / "p.toml").write_text(f"[gpus.toy]\n{text}\n")
    with pytest.raises(UsageError, match=message):
        load_prices(tmp_path / "p.toml")
    (tmp_path / "p.toml").write_text("[gpus]\n")
    with pytest.raises(UsageError, match="gpus"):
        load_prices(tmp_path / "p.toml")
