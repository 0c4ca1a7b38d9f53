"""The checker behind jaxtyping's hook: an int is a float, as in Python and YAML."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
