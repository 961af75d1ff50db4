"""The meters of GPUs: what a card tells, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from finetui.hardware.meters import GpuMeters
from tests.unit.hardware.nvml import A100, GIB, RTX3090, Card, FakeNvml, NVMLError_DriverNotLoaded, Refused

pytestmark = pytest.mark.unit


def test_the_meters_of_the_cards_that_are_asked_for() -> None:
    nvml = FakeNvml([replace(RTX3090, free=3 * GIB, slowed=0x20), A100])
    meters = GpuMeters(nvml, [0])
    (card,) = meters.read()
    assert card == {
        "index": 0,
        "use_percent": 87,
        "memory_bytes": 21 * GIB,
        "total_bytes": 24 * GIB,
        "temperature_c": 71,
        "power_w": 320,
        "throttled": True,
    }
    meters.close()
    assert nvml.open == 0


def test_what_a_card_does_not_tell_is_null() -> None:
    refused = {name: Refused("Not Supported") for name in ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetUtilizationRates")}
    (card,) = GpuMeters(FakeNvml([A100], refused), [0]).read()
    assert card["power_w"] is None
    assert card["use_percent"] is None
    assert card["throttled"] is False


def test_without_a_driver_or_a_card_there_is_nothing() -> None:
    assert GpuMeters(None, [0]).read() == []
    assert GpuMeters(FakeNvml([], {"nvmlInit": NVMLError_DriverNotLoaded()}), [0]).read() == []
    assert GpuMeters(FakeNvml([A100]), []).read() == []


def test_a_driver_that_fell_is_found_again() -> None:
    nvml = FakeNvml([A100], {"nvmlDeviceGetHandleByIndex": Refused("GPU is lost")})
    meters = GpuMeters(nvml, [0])
    assert meters.read() == []
    nvml.refused.clear()
    assert [card["index"] for card in meters.read()] == [0]
    assert nvml.open == 1


def test_a_card_that_vanishes_leaves_the_others_their_meters(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml([RTX3090, A100])
    meters = GpuMeters(nvml, [0, 1])
    assert [card["use_percent"] for card in meters.read()] == [87, 87]

    def handle(index: int) -> Card:
        if index == 1:
            raise Refused("GPU is lost")
        return nvml.cards[index]

    monkeypatch.setattr(nvml, "nvmlDeviceGetHandleByIndex", handle)
    first, second = meters.read()
    assert (first["use_percent"], second["index"]) == (87, 1)
    assert {second[name] for name in ("use_percent", "memory_bytes", "temperature_c", "power_w")} == {None}
    assert nvml.open == 1
