"""Columns of text that no spreadsheet takes for formulas: `heart.spreadsheet` for Arrow."""

import pyarrow as pa
import pyarrow.compute as pc

from heart.spreadsheet import BLANK, FORMULA, NUMBER


def harmless_column(column: pa.Array) -> pa.Array:
    """A column of text with each text as `harmless` has it; a null stays one."""
    suspicious = pc.match_substring_regex(column, f"{FORMULA}|{BLANK}")
    if not pc.any(suspicious).as_py():  # nearly always, and then nothing is copied
        return column
    changed = pc.replace_substring_regex(column, FORMULA, r"\1'\2")
    changed = pc.replace_substring_regex(changed, BLANK, r"'\1")
    return pc.if_else(pc.match_substring_regex(column, f"^(?:{NUMBER})$"), column, changed)
