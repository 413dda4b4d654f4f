"""The needed lag: the shortest context that reaches 99 % of what can be predicted from the lags looked at."""

from unvanish.data.dependency.needed.curve import Curve, Need
from unvanish.data.dependency.needed.numbers import needed_of_numbers
from unvanish.data.dependency.needed.past import one_hot, standard
from unvanish.data.dependency.needed.symbols import needed_of_symbols

__all__ = ["Curve", "Need", "needed_of_numbers", "needed_of_symbols", "one_hot", "standard"]
