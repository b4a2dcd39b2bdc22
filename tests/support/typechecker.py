"""The run-time type checker of the tests: beartype, with whole numbers taken where floats are asked for."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
