# SPDX-License-Identifier: GPL-2.0-only
"""A line of text being typed, and those that were typed before.

Textual has a widget for that. It takes the keys some time after it was told to, and those typed
until then go elsewhere; here a key can never be lost. Pure: keys in, text out.
"""

from __future__ import annotations


class Field:
    """What is typed, and where the cursor is."""

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.open = False
        self._kept: list[str] = []
        self._shown = 0

    def begin(self, text: str) -> None:
        """Let it be typed, beginning with this."""
        self.text, self.at, self.open = text, len(text), True
        self._shown = len(self._kept)

    def keep(self) -> str:
        """End; the text, without blanks around it. It can be had again."""
        text = self.text.strip()
        if text and text not in self._kept[-1:]:
            self._kept.append(text)
        self.open = False
        return text

    def insert(self, text: str) -> None:
        """Put text, without line ends, where the cursor is."""
        text = "".join(character for character in text if character.isprintable())
        self.text = self.text[: self.at] + text + self.text[self.at :]
        self.at += len(text)

    def key(self, name: str) -> bool:
        """Do what a key does that is no letter. Return False if it does nothing here."""
        text, at = self.text, self.at
        if name == "backspace":
            self.text, self.at = text[: max(at - 1, 0)] + text[at:], max(at - 1, 0)
        elif name == "delete":
            self.text = text[:at] + text[at + 1 :]
        elif name == "ctrl+u":
            self.text, self.at = text[at:], 0
        elif name == "ctrl+k":
            self.text = text[:at]
        elif name == "ctrl+w":
            start = text[:at].rstrip().rfind(" ") + 1
            self.text, self.at = text[:start] + text[at:], start
        elif name in {"left", "right"}:
            self.at = min(max(at + (1 if name == "right" else -1), 0), len(text))
        elif name in {"home", "ctrl+a"}:
            self.at = 0
        elif name in {"end", "ctrl+e"}:
            self.at = len(text)
        elif name in {"up", "down"}:
            self._older(-1 if name == "up" else 1)
        else:
            return False
        return True

    def _older(self, by: int) -> None:
        self._shown = min(max(self._shown + by, 0), len(self._kept))
        self.text = self._kept[self._shown] if self._shown < len(self._kept) else ""
        self.at = len(self.text)
