"""A search with scikit-learn for the initialiser that lets a network remember: each answer comes with its reason.

The first of twenty numbers decides the class. The best network says how far back the data need the gradient to
come, and that it comes so far; the other one says that it is lost on the way.
"""

import numpy as np
from sklearn.model_selection import GridSearchCV

from unvanish.estimators import SequenceClassifier

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 20))
y = np.where(X[:, 0] > 0, "over", "under")
usual, gates_open = {"probes": 0}, {"probes": 0, "init": ["forget:5"]}

network = SequenceClassifier("lstm", hidden=16, layers=1, epochs=5, batch_size=10, lr=0.05, random_state=0)
search = GridSearchCV(network, {"options": [usual, gates_open]}, cv=2).fit(X[:200], y[:200])
plain = network.set_params(options=usual).fit(X[:200], y[:200])
for name, found in (("best", search.best_estimator_), ("plain", plain)):
    print(f"{name}: needs {found.need_} steps, reaches {found.reach_}: {found.held_back_};", end=" ")
    print(f"{found.score(X[200:], y[200:]):.0%} right")

assert search.best_params_ == {"options": gates_open}
assert search.score(X[200:], y[200:]) > 0.85
assert (search.best_estimator_.held_back_, plain.held_back_) == ("far enough", "lost on the way")
