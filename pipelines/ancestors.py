"""Stage `ancestors`: digests of the models that training needs, as they are now.

It runs at every `dvc repro`, since DVC does not see into a registry: where a teacher or a starting
point has other weights than before, the variants that learnt from it are trained again.
"""

from pipelines.paths import ANCESTORS, stage
from zoo.config import Params
from zoo.errors import UserError
from zoo.files import write_json
from zoo.registry.resolve import resolve


def find_digest(params: Params, reference: str) -> str:
    """Return a model's digest; empty for published weights, and where training is to make it."""
    try:
        return resolve(None, reference).digest
    except UserError:
        if not any(variant.name in reference for variant in params.variants):
            raise
        return ""


if __name__ == "__main__":
    with stage() as params:
        for variant in params.variants:
            named = params.models[variant.model].ancestors()
            digests = {
                role: find_digest(params, variant.fill(said)) for role, said in named.items()
            }
            write_json(ANCESTORS / f"{variant.key}.json", digests)
