"""Parts of a build on a Ray cluster: the one that is connected, that of `RAY_ADDRESS`, else one on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from rasteret_torch.errors import RasteretTorchError

_PER_CORE = 2  # parts: while one waits for its last files, another begins


class RayEngine:
    """Runs parts as Ray tasks. What they need travels as recipes, what they make as Arrow tables."""

    is_here = False

    def __init__(self) -> None:
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False)
        self.at_once = max(2, int(ray.cluster_resources().get("CPU", 1)) * _PER_CORE)
        self._task = ray.remote(_call)

    def run[R](self, function: Callable[..., R], *arguments: Any) -> R:
        """See `Engine`.

        Raises:
            RasteretTorchError: what the part raised, or that the cluster lost it.
        """
        try:
            result: R = ray.get(self._task.remote(function, arguments))
        except RayTaskError as error:
            cause = getattr(error, "cause", None)
            raise cause if isinstance(cause, RasteretTorchError) else error from error
        except RayError as error:
            reason = str(error).strip().partition("\n")[0]
            raise RasteretTorchError(
                f"the Ray cluster lost a part of the build ({reason}); build again: from STAC, what is done is kept"
            ) from error
        return result


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)
