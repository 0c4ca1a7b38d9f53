"""What lies under a hub id, found out in one request; without a network, what of it was downloaded before."""

from pathlib import Path
from typing import NamedTuple

SETTINGS = ("*.json", "*/*.json")
TIMEOUT = 10  # seconds for an answer of the hub, once: diffusers asks again and again, for half a minute
ELSEWHERE = "or download the model where there is a network, and give its folder: backbone.path=FOLDER"


class HubModel(NamedTuple):
    """A model of the hub.

    Attributes:
        place: what is loaded: the id, or the folder of the cache, where there is no network.
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
    except hub.HfHubHTTPError as error:
        raise OSError(f"backbone.path = {name}: {describe_refusal(name, revision, error)}") from error
    except (hub.HTTPError, OSError) as error:  # no network, or one that is not to be used
        return open_cached_model(name, revision, error)


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
    first = str(error).strip().partition("\n")[0]
    return f"the hub answers with an error ({first}): try again later, {ELSEWHERE}"


def open_cached_model(name: str, revision: str | None, error: Exception) -> HubModel:
    """What was downloaded before of a hub id that cannot be reached."""
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(SETTINGS), local_files_only=True))
    except (hub.LocalEntryNotFoundError, OSError) as absent:
        is_meant = isinstance(error, hub.OfflineModeIsEnabled)
        why = "HF_HUB_OFFLINE is set" if is_meant else f"the hub cannot be reached ({describe_fault(error)})"
        raise OSError(
            f"backbone.path = {name}: no such folder here; as a model of the hub it was not downloaded before, and "
            f"{why}: {'unset it' if is_meant else 'look at the network'}, {ELSEWHERE}"
        ) from absent
    names = frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return HubModel(str(folder), folder, names)


def describe_fault(error: Exception) -> str:
    """An error in a line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
