from __future__ import annotations

from fleet.scopes import SCOPES, missing


def test_every_scope_of_tesla_has_words() -> None:
    names = (
        "openid offline_access user_data vehicle_device_data vehicle_location vehicle_cmds "
        "vehicle_charging_cmds vehicle_specs energy_device_data energy_cmds enterprise_management"
    )
    assert set(SCOPES) == set(names.split())
    assert all(title and why.endswith(".") for title, why in SCOPES.values())


def test_what_was_unticked() -> None:
    asked = ["openid", "vehicle_cmds", "user_data"]
    assert missing(asked, ("openid",)) == ("vehicle_cmds", "user_data")
    assert missing(asked, [*asked, "more"]) == ()
    assert missing(asked, ()) == tuple(asked)


def test_unknown_is_not_missing() -> None:
    assert missing(["openid"], None) == ()
