"""What a tokenizer leaves of a prompt: a cut is warned of, and classes that become one text are refused."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalft.errors import CausalFTError, CausalFTWarning

__all__ = ["check_different", "class_tokens"]

_LONGER = 8  # times the context, to see what was cut
_BATCH = 1024
_SAME = 1e-6  # of unit features


def class_tokens(
    tokenizer: Callable[..., Tensor],
    texts: Sequence[str],
    owner: Sequence[int],
    class_names: Sequence[str],
    *,
    template: str,
    model: str,
) -> Tensor:
    """Tokenize the prompts of classes, shape (n_texts, context length).

    Parameters
    ----------
    tokenizer : callable
        Texts to padded token ids; one that cuts takes ``context_length``, as those of open_clip do.
    texts : sequence of str
    owner : sequence of int
        Whose each text is: a place in ``class_names``.
    class_names : sequence of str
    template : str
        Where the texts come from, for messages.
    model : str
        Whose tokenizer it is, for messages.

    Warns
    -----
    CausalFTWarning
        If texts are cut: the first class is named, and how many there are.

    Raises
    ------
    CausalFTError
        If two classes have the same tokens in all their texts; both are named.

    Examples
    --------
    >>> from open_clip import SimpleTokenizer
    >>> names = ["lynx", "otter"]
    >>> class_tokens(SimpleTokenizer(), names, [0, 1], names, template="{}", model="clip").shape
    torch.Size([2, 77])
    """
    found = [_tokens(tokenizer, texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
    tokens = torch.cat([part for part, _ in found])
    cut = np.concatenate([part for _, part in found])
    classes = sorted({owner[row] for row in np.flatnonzero(cut).tolist()})
    if classes:
        whose = (
            f"that of {_short(class_names[classes[0]])}"
            if len(classes) == 1
            else f"those of {len(classes)} of {len(class_names)} classes, {_short(class_names[classes[0]])} first,"
        )
        warnings.warn(
            f"{model} reads {tokens.shape[1]} tokens of a prompt, and the template {_short(template)} makes longer "
            f"ones: {whose} {'is' if len(classes) == 1 else 'are'} cut; use a shorter template or shorter class names",
            CausalFTWarning,
            stacklevel=3,
        )
    _refuse_equal(tokens, owner, class_names, template, model, bool(classes))
    return tokens


def check_different(features: Tensor, class_names: Sequence[str], *, template: str, model: str) -> Tensor:
    """Return text features (n_classes, d) as they are, or refuse two classes with the same ones."""
    values = features.detach().double().cpu().numpy()
    # Equal rows have equal projections, so only neighbours in that order need a look.
    direction = np.random.default_rng(0).normal(size=values.shape[1])
    order = np.argsort(values @ direction, kind="stable")
    same = np.flatnonzero(np.abs(np.diff(values[order], axis=0)).max(axis=1, initial=0) <= _SAME)
    if len(same):
        first, second = sorted((int(order[same[0]]), int(order[same[0] + 1])))
        raise CausalFTError(
            f"classes {_short(class_names[first])} and {_short(class_names[second])} have the same text features in "
            f"{model} with the template {_short(template)}, so it cannot tell them apart; use another template or "
            "other class names"
        )
    return features


def _short(text: str) -> str:
    """A text in quotes, without its middle where it is long."""
    return repr(text if len(text) <= 80 else f"{text[:50]}...{text[-25:]}")


def _tokens(tokenizer: Callable[..., Tensor], texts: Sequence[str]) -> tuple[Tensor, NDArray[np.bool_]]:
    """Token ids, and which of the texts were cut."""
    tokens = tokenizer(list(texts))
    context = tokens.shape[1]
    cut = np.zeros(len(texts), dtype=bool)
    if not _takes_context_length(tokenizer):
        return tokens, cut  # it refuses what it would have to cut
    longer: Any = {"context_length": _LONGER * context}
    padding = tokenizer([""], **longer)[0].mode().values
    full = np.flatnonzero(((tokens != padding).sum(dim=1) >= context - 1).numpy())
    if len(full):
        whole = tokenizer([texts[row] for row in full.tolist()], **longer)
        cut[full] = ((whole != padding).sum(dim=1) > (tokens[full] != padding).sum(dim=1)).numpy()
    return tokens, cut


def _takes_context_length(tokenizer: Callable[..., Tensor]) -> bool:
    try:
        return "context_length" in inspect.signature(tokenizer).parameters
    except (TypeError, ValueError):
        return False


def _refuse_equal(
    tokens: Tensor, owner: Sequence[int], class_names: Sequence[str], template: str, model: str, cut: bool
) -> None:
    said: dict[int, list[bytes]] = {}
    for k, row in zip(owner, tokens.cpu().numpy(), strict=True):
        said.setdefault(k, []).append(row.tobytes())
    first: dict[tuple[bytes, ...], int] = {}
    for k, rows in said.items():
        other = first.setdefault(tuple(sorted(set(rows))), k)
        if other != k:
            why = f" once they are cut to {tokens.shape[1]} tokens" if cut else ""
            way_out = "use a shorter template" if cut else "rename one of them"
            raise CausalFTError(
                f"classes {_short(class_names[other])} and {_short(class_names[k])} become the same text for {model} "
                f"with the template {_short(template)}{why}, so it cannot tell them apart; {way_out}"
            )
