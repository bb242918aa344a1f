"""The table of claims, in the order of the report.

Thresholds come from the papers' wording, are the weakest reading that still tests the statement,
and were fixed before our own models were looked at.
"""

from zoo.claims.table import raghu_layers, raghu_tokens, raghu_training, zhu

CLAIMS = (*zhu.CLAIMS, *raghu_layers.CLAIMS, *raghu_tokens.CLAIMS, *raghu_training.CLAIMS)

__all__ = ["CLAIMS"]
