"""Published weights from a hub, by timm; quick to say so where the hub cannot be reached."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from torch import nn

from cellkin.core.errors import WeightsError, did_you_mean
from cellkin.learning.networks import body_settings, timm

HUB = "hub"
PREFIXES = ("hub:", "hf-hub:")
DEFAULT_TAGS = {"vit_base_patch16_224": "augreg_in21k_ft_in1k"}  # the paper's ViT, section 5.2
PATIENCE = 3.0  # seconds to wait for the hub's door to open


def names_a_hub(init: str) -> bool:
    """Whether `init` is "hub", "hub:NAME" or "hf-hub:ORG/NAME"."""
    return init == HUB or init.startswith(PREFIXES)


def fetch(init: str, backbone: str, size: int) -> nn.Module:
    """The published network without its head; its `pretrained_cfg` says the z-score.

    Args:
        init: "hub" (timm's own weights of this backbone; for `vit_base_patch16_224` those of the
            paper), "hub:NAME.TAG" of timm, or "hf-hub:ORG/NAME".
        size: side of the images; position embeddings are resampled to it.

    Raises:
        WeightsError: no such weights, those of another backbone, or the hub cannot be reached and
            nothing was fetched before.
    """
    name = _full_name(init, backbone)
    settings = body_settings(backbone, size)
    try:
        with _without_waiting():
            source: Any = timm.create_model(name, pretrained=True, num_classes=0, **settings)
    except Exception as error:  # a hub fails in many ways: no network, no such weights, a proxy
        raise WeightsError(
            f"the weights of {name!r} could not be fetched from the hub",
            where=f"--init {init} ({type(error).__name__}: {str(error).splitlines()[0]})",
            mend="go online once (what was fetched stays in the cache), or give a weights file or "
            "an encoder's folder: --init PATH, or use the packaged weights: "
            "--backbone tf_efficientnet_lite0 --init packaged",
        ) from error
    found = source.pretrained_cfg.get("architecture") or name.split(".")[0]
    if found != backbone:
        raise _other_backbone(found, backbone, init)
    module: nn.Module = source
    return module


def _full_name(init: str, backbone: str) -> str:
    if init == HUB:
        tag = DEFAULT_TAGS.get(backbone)
        return f"{backbone}.{tag}" if tag else backbone
    if init.startswith("hf-hub:"):
        return init
    name = init.removeprefix("hub:")
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        hint = did_you_mean(architecture, timm.list_models())
        raise WeightsError(
            f"the hub has no weights {name!r}",
            where=f"--init {init}",
            mend=hint or "name a timm model, or hf-hub:ORG/NAME",
        )
    if architecture != backbone:
        raise _other_backbone(architecture, backbone, init)
    known = timm.list_models(f"{architecture}*", pretrained=True)
    if "." in name and name not in known:
        tags = ", ".join(n for n in known if n.split(".")[0] == architecture) or "none"
        raise WeightsError(
            f"the hub has no weights {name!r}",
            where=f"--init {init}",
            mend=did_you_mean(name, known) or f"known for this backbone: {tags}",
        )
    return name


def _other_backbone(found: str, backbone: str, init: str) -> WeightsError:
    return WeightsError(
        f"these are weights of {found!r}, the backbone is {backbone!r}",
        where=f"--init {init}",
        mend=f"name the backbone that the weights were made for: --backbone {found}",
    )


@contextmanager
def _without_waiting() -> Iterator[None]:
    """Where the hub cannot be reached, ask the cache alone in place of minutes of retries."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(endpoint: str) -> bool:
    """Whether the hub's door opens; behind a proxy only a true request could tell."""
    place = urlsplit(endpoint)
    if place.scheme in urllib.request.getproxies():
        return True
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        socket.create_connection((place.hostname or "", port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True
