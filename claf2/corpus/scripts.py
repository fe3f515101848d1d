"""The letters of languages, as ranges of a regular expression."""

from __future__ import annotations

__all__ = ["HAN", "SCRIPTS"]

HAN = "\u2e80-\u2fdf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters."""

SCRIPTS = {
    "ko": "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff",
    "ja": f"\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f{HAN}",
    "en": "A-Za-z",
}
"""Language → the letters of its script. Jamo are Hangul, and Chinese characters count as Japanese."""
