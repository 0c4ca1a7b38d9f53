"""How a picture is taken up to a noise level: the encoding E_r of DiffEdit (§3.2, step 2)."""

from jaxtyping import Float
from torch import Tensor

from diffedit.conditions import Choice, choose_text
from diffedit.io.checks import settings
from diffedit.sampling.ddim import InversionTimestep, ddim_invert
from diffedit.types import Cond, EditRequest, Program, Schedule


@settings
class Inversion:
    """DDIM inversion, unguided.

    Attributes:
        timestep: which one the network is given on the way up, see `ddim_invert`.
        condition: under which it looks at the picture: `empty`, as in the paper; `source`, the request's text;
            `source_class` or `target_class`, what the backbone calls its class; or `given`.
        text: the given one, for all requests.
    """

    timestep: InversionTimestep = "destination"
    condition: Choice = "empty"
    text: str | None = None

    def find_text(self, request: EditRequest) -> str:
        """What `condition` is for a request; a ValueError where it has none."""
        return choose_text(self.condition, request, self.text, "editor.inversion.condition")

    def climb(
        self, x0: Float[Tensor, "1 c h w"], schedule: Schedule, top: int, cond: Cond
    ) -> Program[list[Float[Tensor, "1 c h w"]]]:
        """The latents of a picture at levels 0 to `top`."""
        return ddim_invert(x0, schedule, top, cond, self.timestep)
