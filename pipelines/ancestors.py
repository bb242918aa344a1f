"""Stage `ancestors`: digests of the models that training needs, as they are now.

It runs at every `dvc repro`, since DVC does not see into a registry: where a teacher or a starting
point has other weights than before, the variants that learnt from it are trained again.
"""

from pipelines.paths import ANCESTORS, MODELS, stage
from zoo.config import Params
from zoo.errors import UserError
from zoo.files import user_path, write_json
from zoo.registry.references import parse
from zoo.registry.resolve import resolve


def find_digest(params: Params, reference: str) -> str:
    """Return a model's digest; empty for published weights, and where training is to make it."""
    try:
        return resolve(None, reference).digest
    except UserError:
        if not is_to_be_trained(params, reference):
            raise
        return ""


def is_to_be_trained(params: Params, reference: str) -> bool:
    """Say whether a reference is to the folder or to the registered name of a variant."""
    named = parse(reference)
    if named.folder is not None:
        return named.folder in {user_path(str(MODELS / v.key)) for v in params.variants}
    names = params.registered_names
    return named.name in {name for v in params.variants for name in (v.name, names[v.name])}


if __name__ == "__main__":
    with stage() as params:
        for variant in params.variants:
            named = params.models[variant.model].ancestors()
            digests = {
                role: find_digest(params, variant.fill(said)) for role, said in named.items()
            }
            write_json(ANCESTORS / f"{variant.key}.json", digests)
