"""Tesla's scopes, and what each is for in an owner's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Scope(NamedTuple):
    title: str
    why: str


SCOPES: dict[str, Scope] = {
    "openid": Scope("Sign in", "Says who you are at Tesla, so that your grant is yours alone."),
    "offline_access": Scope("Stay connected", "Lets the grant be refreshed while you are away."),
    "user_data": Scope(
        "Profile", "Your name, e-mail address and profile picture at Tesla, and your home region."
    ),
    "vehicle_device_data": Scope(
        "Vehicle information", "State of charge, doors, software and other live data."
    ),
    "vehicle_location": Scope("Vehicle location", "Where your car is, and where it is going."),
    "vehicle_cmds": Scope("Vehicle commands", "Lock, unlock, climate, sentry mode and other commands."),
    "vehicle_charging_cmds": Scope("Charging commands", "Start, stop, limit and schedule charging."),
    "vehicle_specs": Scope(
        "Vehicle specifications", "Model, options and warranty, even of cars without consent."
    ),
    "energy_device_data": Scope(
        "Energy information", "Live data of your solar system, Powerwall or wall connector."
    ),
    "energy_cmds": Scope("Energy commands", "Change how your Powerwall or other energy product works."),
    "enterprise_management": Scope("Business account", "Manage what a business account owns."),
}
"""Every scope of Tesla's developer pages ("Authentication overview", scopes)."""


def missing(requested: Iterable[str], granted: Iterable[str] | None) -> tuple[str, ...]:
    """What was asked for and not granted, in the order of asking. Empty when `granted` is unknown (None)."""
    if granted is None:
        return ()
    have = set(granted)
    return tuple(dict.fromkeys(scope for scope in requested if scope not in have))
