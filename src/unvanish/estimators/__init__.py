"""scikit-learn's interface to training: a classifier, a regressor and a forecaster of sequences.

Each measures, as every run does, how far back its data need the gradient to come and how far it comes.
"""

from unvanish.errors import MissingExtraError

try:
    from unvanish.estimators.forecaster import Forecaster
    from unvanish.estimators.labels import SequenceClassifier, SequenceRegressor
except ImportError as fault:
    raise MissingExtraError(f"estimators stand on {fault.name}: pip install 'unvanish[sklearn]'") from fault

__all__ = ["Forecaster", "SequenceClassifier", "SequenceRegressor"]
