"""Text that no spreadsheet takes for a formula, for whatever people may open in one.

As OWASP advises, an apostrophe is put before it: https://owasp.org/www-community/attacks/CSV_Injection.
A cell may begin within a text, too: where decimals have a comma, spreadsheets split CSV at semicolons,
and they take the quotation marks of a field that they do not see the start of for part of its text.
"""

import re

# Both are regular expressions of Python and of RE2, which Arrow has.
# The start of a cell, whatever splits a line; what is passed over; what makes a formula of the rest.
FORMULA = r'(^|[;\t\r\n])([ "\x00-\x08\x0b\x0c\x0e-\x1f]*[=+\-@＝＋－＠])'  # noqa: RUF001 - full width
BLANK = r"^([\t\r\n])"  # at the start of a cell: a spreadsheet may drop it, and see what follows
NUMBER = r"[+\-]?[.,]?[0-9][0-9.,]*(?:[eE][+\-]?[0-9]+)?"


def harmless(text: str) -> str:
    """A text with an apostrophe before whatever in it could be a formula; a number stays one."""
    if re.fullmatch(NUMBER, text):
        return text
    return re.sub(BLANK, r"'\1", re.sub(FORMULA, r"\1'\2", text))
