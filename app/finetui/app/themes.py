"""The four looks of the app: dark, light, the terminal's own sixteen colours, and none."""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import BUILTIN_THEMES, Theme

DARK, LIGHT, ANSI, PLAIN = "dark", "light", "ansi", "no-colour"
MUTED = "$text-muted 60%"
"""The style of what matters less. Textual drops the 60 % of the variable where a text has it, though not in CSS."""
_ANSI = BUILTIN_THEMES["ansi-dark"]
_REVERSED = {
    **{name: "ansi_default" for name, value in _ANSI.variables.items() if value.startswith("ansi_")},
    "block-cursor-text-style": "reverse",
    "block-cursor-blurred-text-style": "bold",
    "block-cursor-blurred-foreground": "ansi_default",
    "block-cursor-blurred-background": "ansi_default",
    "input-cursor-text-style": "reverse",
}
"""What other themes show by colours, where there are none."""

THEMES: Mapping[str, Theme] = {
    DARK: Theme(
        DARK,
        primary="#5fafff",
        secondary="#87afd7",
        accent="#ffaf5f",
        success="#87d787",
        warning="#ffd75f",
        error="#ff8787",
        foreground="#e4e4e4",
        background="#121212",
        surface="#1c1c1c",
        panel="#262626",
    ),
    LIGHT: Theme(
        LIGHT,
        primary="#005faf",
        secondary="#5f5faf",
        accent="#af5f00",
        success="#008700",
        warning="#875f00",
        error="#af0000",
        foreground="#1c1c1c",
        background="#ffffff",
        surface="#f4f4f4",
        panel="#e4e4e4",
        dark=False,
    ),
    ANSI: Theme(
        ANSI,
        primary="ansi_blue",
        secondary="ansi_cyan",
        warning="ansi_yellow",
        error="ansi_red",
        success="ansi_green",
        accent="ansi_cyan",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        boost="ansi_default",
        ansi=True,
        variables=_ANSI.variables,
    ),
    PLAIN: Theme(
        PLAIN,
        primary="ansi_default",
        secondary="ansi_default",
        warning="ansi_default",
        error="ansi_default",
        success="ansi_default",
        accent="ansi_default",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        boost="ansi_default",
        ansi=True,
        variables=_REVERSED,
    ),
}
"""Each by its name. Dark and light name colours of the 256 that ssh leaves."""


def first_theme(chosen: str | None, environment: Mapping[str, str], colours: int) -> str:
    """The theme to begin with: none of colour under NO_COLOR, the terminal's own where it has less than 256."""
    if "NO_COLOR" in environment:
        return PLAIN
    if chosen is not None and chosen in THEMES:
        return chosen
    return DARK if colours >= 256 else ANSI
