"""Personal data: e-mail addresses, and telephone, resident and card numbers, are replaced by placeholders."""

from __future__ import annotations

import re
from collections import Counter

from claf2.corpus.cleaning import CleaningRule, TextFilter, register_cleaning_rule

EMAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
DIGITS = re.compile(r"[+(]?\d(?:[-.() ]{0,2}\d){8,}")
"""Where a number may be: nine digits or more, with at most two separators between them."""
RESIDENT = re.compile(r"(?<!\d)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(-| - |)[1-8]\d{6}(?!\d)")
"""A resident registration number of Korea: the date of birth, then a digit for century and sex, and six more."""
CARD = re.compile(r"(?<![\d.-])[1-9](?:(?:-?\d){12,18}|(?: ?\d){12,18})(?![\d-])")
"""A card number: 13 to 19 digits with one kind of separator, so that it is not made of parts of two other numbers."""
PHONE = re.compile(
    r"(?<![\d.-])(?:"
    r"\+\d{1,3}[-. ]?\(?\d{1,4}\)?(?:[-. ]?\d{3,4}){2}"  # international
    r"|(?:\(01[016-9]\) ?|01[016-9][-. ]?)\d{3,4}[-. ]?\d{4}"  # Korean mobile
    r"|0[789]0[-. ]\d{4}[-. ]\d{4}|0[789]0\d{8}"  # Japanese mobile
    r"|(?:\(0[1-9]\d{0,3}\)[-. ]?|0[1-9]\d{0,3}[-. ])\d{2,4}[-. ]\d{4}"  # fixed, of both countries
    r")(?![\d-])"
)
RESIDENT_WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)


@register_cleaning_rule("personal")
class PersonalData(CleaningRule):
    """Replaces e-mail addresses (``<email>``), telephone numbers of Korea and Japan and international ones
    (``<phone>``), Korean resident numbers (``<resident>``), and card numbers (``<card>``).

    Card numbers must satisfy the check digit of Luhn. Resident numbers that are written without a hyphen must satisfy
    their check digit. Those with a hyphen need not, since numbers assigned from October 2020 on have none.
    """

    def make_filter(self, replacements: Counter[str]) -> TextFilter:
        def replace_email(_: re.Match[str]) -> str:
            replacements["e-mail addresses"] += 1
            return "<email>"

        def replace_resident(match: re.Match[str]) -> str:
            if not match[1] and not _is_resident_number(match[0]):
                return match[0]
            replacements["resident numbers"] += 1
            return "<resident>"

        def replace_card(match: re.Match[str]) -> str:
            if not _satisfies_luhn(match[0]):
                return match[0]
            replacements["card numbers"] += 1
            return "<card>"

        def replace_phone(_: re.Match[str]) -> str:
            replacements["telephone numbers"] += 1
            return "<phone>"

        def replace_numbers(match: re.Match[str]) -> str:
            text = RESIDENT.sub(replace_resident, match[0])
            return PHONE.sub(replace_phone, CARD.sub(replace_card, text))

        def mask(text: str) -> str:
            if "@" in text:
                text = EMAIL.sub(replace_email, text)
            return DIGITS.sub(replace_numbers, text)

        return mask


def _is_resident_number(number: str) -> bool:
    """Return whether the last of 13 digits is the check digit of a resident registration number."""
    digits = [int(digit) for digit in number]
    total = sum(weight * digit for weight, digit in zip(RESIDENT_WEIGHTS, digits, strict=False))
    return (11 - total % 11) % 10 == digits[-1]


def _satisfies_luhn(number: str) -> bool:
    """Return whether a number ends in its check digit (ISO/IEC 7812-1)."""
    digits = [int(character) for character in number if character.isdigit()]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
