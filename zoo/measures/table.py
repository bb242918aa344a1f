"""Measures of how alike two representations are; higher is closer.

Each is a pure function of features (n, p) and (n, q) of the same n images. Some are similarities
by themselves; the Procrustes distance d is turned into one by 1 − d²/2. `MEASURES` is the table
of those beside linear CKA, which has an analysis of its own.
"""

from zoo.measures.canonical import PWCCA, SVCCA, pwcca, svcca
from zoo.measures.features import DegenerateError, Measure
from zoo.measures.kernel import RBF_CKA, rbf_cka
from zoo.measures.linear_cka import linear_cka
from zoo.measures.neighbours import MUTUAL_KNN, mutual_knn
from zoo.measures.procrustes import PROCRUSTES, procrustes_similarity
from zoo.measures.rsa import RSA, rsa

MEASURES: dict[str, Measure] = {
    measure.name: measure for measure in (RBF_CKA, SVCCA, PWCCA, PROCRUSTES, RSA, MUTUAL_KNN)
}

__all__ = [
    "MEASURES",
    "DegenerateError",
    "Measure",
    "linear_cka",
    "mutual_knn",
    "procrustes_similarity",
    "pwcca",
    "rbf_cka",
    "rsa",
    "svcca",
]
