"""The command ``oracle``: AP with one predicted quantity replaced by the truth (VarifocalNet, section 3.1, table 1)."""
