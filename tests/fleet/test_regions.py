from __future__ import annotations

import pytest

from fleet.regions import REGIONS, Regions, region_of_hint

TESLA = Regions(
    {
        "NA": "https://fleet-api.prd.na.vn.cloud.tesla.com",
        "EU": "https://fleet-api.prd.eu.vn.cloud.tesla.com/",
    }
)
SANDBOX = Regions({"NA": "http://localhost:9000/na", "EU": "http://localhost:9000/eu"})


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("NA_abc", "NA"),
        ("EU_", "EU"),
        ("cn_abc", "CN"),
        ("XX_abc", None),
        ("NAabc", None),
        ("NA", None),
        ("", None),
        ("_NA", None),
    ],
)
def test_a_hint(text: str, region: str | None) -> None:
    assert region_of_hint(text) == region


def test_each_region_has_words() -> None:
    assert set(REGIONS) == {"NA", "EU", "CN"}
    assert all(name and covers for name, covers in REGIONS.values())


def test_the_url_of_a_region() -> None:
    assert TESLA.url("eu") == "https://fleet-api.prd.eu.vn.cloud.tesla.com"
    assert list(TESLA) == ["NA", "EU"]
    with pytest.raises(KeyError):
        TESLA.url("CN")


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://fleet-api.prd.eu.vn.cloud.tesla.com", "EU"),
        ("https://fleet-api.prd.eu.vn.cloud.tesla.com/", "EU"),
        ("https://FLEET-API.prd.eu.vn.cloud.tesla.com:443", "EU"),
        ("http://fleet-api.prd.eu.vn.cloud.tesla.com", None),
        ("https://fleet-api.prd.eu.vn.cloud.tesla.com:8443", None),
        ("https://fleet-api.prd.eu.vn.cloud.tesla.com.evil.example", None),
        ("https://fleet-api.prd.eu.vn.cloud.tesla.com@evil.example", None),
        ("https://evil@fleet-api.prd.eu.vn.cloud.tesla.com", None),
        ("https://fleet-api.prd.eu.vn.cloud.tesla.com/x", None),
        ("https://fleet-api.prd.eu.vn.cloud.tesla.com?x", None),
        ("https://evil.example", None),
        ("https://evil.example:port", None),
        ("http://[::1", None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_only_configured_urls_are_regions(url: str, region: str | None) -> None:
    assert TESLA.region_of_url(url) == region


def test_regions_that_share_a_host() -> None:
    assert SANDBOX.region_of_url("http://localhost:9000/eu/") == "EU"
    assert SANDBOX.region_of_url("http://localhost:9000/na") == "NA"
    assert SANDBOX.region_of_url("http://localhost:9000/") is None


def test_a_malformed_setting_is_no_place_for_tokens() -> None:
    assert Regions({"NA": "nonsense"}).region_of_url("other nonsense") is None
