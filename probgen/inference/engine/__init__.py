"""How an objective is evaluated: draws, what flows where, the choice of estimators, and the gradient put together."""
