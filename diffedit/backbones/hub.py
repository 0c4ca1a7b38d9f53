"""What lies under a hub id, found out in one request; where it is not given, what of it was downloaded before."""

import logging
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

SETTINGS = ("*.json", "*/*.json")
TIMEOUT = 10  # seconds for an answer of the hub, once: diffusers asks again and again, for half a minute
ELSEWHERE = "or download the model where there is a network, and give its folder: backbone.path=FOLDER"


class HubModel(NamedTuple):
    """A model of the hub.

    Attributes:
        place: what is loaded: the id, or the folder of the cache, where the hub does not give it.
        settings: folder with its JSON files.
        names: of all its files.
    """

    place: str
    settings: Path
    names: frozenset[str]


def open_hub_model(name: str, revision: str | None = None) -> HubModel:
    """The files of a hub id, of which the JSON ones are downloaded.

    Raises:
        OSError: there is none, it is not for this user, or it cannot be reached and was not downloaded before; the
            message says what to do.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub import errors as hub

    try:
        found = HfApi().model_info(name, revision=revision, timeout=TIMEOUT)
        settings = snapshot_download(name, revision=found.sha or revision, allow_patterns=list(SETTINGS))
        return HubModel(name, Path(settings), frozenset(file.rfilename for file in found.siblings or ()))
    except hub.HFValidationError as error:
        raise FileNotFoundError(
            f"backbone.path = {name}: no such folder here, and no name of a model on the hub (OWNER/MODEL)"
        ) from error
    except (hub.HTTPError, OSError) as error:  # it does not give it, or there is no network, or one not to be used
        if getattr(error, "errno", None) is not None:  # of our own disk: full, or not to be written to
            raise
        why = describe_refusal(name, revision, error)
        if (cached := find_cached_model(name, revision)) is None:
            raise OSError(f"backbone.path = {name}: {why}") from error
        if not isinstance(error, hub.OfflineModeIsEnabled):
            log.warning("backbone.path = %s: taken as it was downloaded before, since: %s", name, why)
        return cached


def describe_refusal(name: str, revision: str | None, error: Exception) -> str:
    """Why the hub does not give a model, and what to do."""
    from huggingface_hub import errors as hub

    page = f"https://huggingface.co/{name}"
    match error:
        case hub.GatedRepoError():
            return (
                f"the hub gives it to those alone who have accepted its licence: accept it on {page}, then log in here "
                f"(`hf auth login`, or HF_TOKEN=...); {ELSEWHERE}"
            )
        case hub.RepositoryNotFoundError():
            return (
                "no such folder here, and no model that the hub gives: misspelt, withdrawn (look for a copy under "
                "another name on https://huggingface.co), or private (log in: `hf auth login`, or HF_TOKEN=...); "
                f"{ELSEWHERE}"
            )
        case hub.DisabledRepoError():
            return f"the hub has disabled it ({page}): look for a copy under another name; {ELSEWHERE}"
        case hub.RevisionNotFoundError():
            return (
                f"the hub has no revision {revision!r} of it: backbone.revision=null takes the newest ({page}/commits)"
            )
        case hub.OfflineModeIsEnabled():
            return f"no such folder here; as a model of the hub, HF_HUB_OFFLINE is set: unset it, {ELSEWHERE}"
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, hub.HfHubHTTPError):
        return f"the hub answers with an error ({first}): try again later, {ELSEWHERE}"
    fault = f"no such folder here; as a model of the hub, that cannot be reached ({first})"
    return f"{fault}: look at the network, {ELSEWHERE}"


def find_cached_model(name: str, revision: str | None = None) -> HubModel | None:
    """What was downloaded before of a hub id; None for nothing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(SETTINGS), local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None
    names = frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return HubModel(str(folder), folder, names)
