"""The prompt: what the model is told, for running and for training alike.

A prompt is a list of (text, is it the user's) pieces. The user's pieces are tokenised without special tokens, so
that a chat line which contains `<|im_end|>` stays text; all structure comes from here and from the model's template.
"""

import re
import unicodedata

import msgspec
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kff_live.protocols.errors import DecodeError
from kff_live.protocols.keyframe_text import NAMES

Prompt = list[tuple[str, bool]]
"""Pieces in order; True marks text that came from a user."""


class PromptInput(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one answer is asked for: the text, and what is known around it."""

    text: str
    background: str = ""
    emotion: str = ""
    descriptions: tuple[str, ...] = ()


class Message(msgspec.Struct, frozen=True):
    """One chat message: its role and its pieces."""

    role: str
    pieces: Prompt


_SYSTEM = (
    "You animate a face. Answer each text with keyframes, one line each: what the face shows, the time to get there "
    "in tenths of a second, + how long it stays, then muscles with levels 1 to 10. L and R are the face's own sides. "
    "Muscles: " + " ".join(name.word for name in NAMES) + "."
)

_TRAINED_SYSTEM = "Act as a face."
"""For a model that was trained on keyframe text: it knows the rest, and a short prompt is read sooner."""

_EXAMPLES: tuple[tuple[str, str], ...] = (
    ("My flight home is confirmed!", "bright joy: 3+12 squint4 smile9 cheek7\nsoft smile: 8+6 smile4 cheek2\n"),
    ("Grandpa's farm burned down.", "grief: 9+20 lookdown5 frown7 browinner8 pitch-2\n"),
    ("The shelf is made of oak.", "calm: 4+6 smile1\n"),
    ("You scratched my new car, you liar.", "anger: 4+14 squint6 press5 browdown9 sneer4\n"),
    ("The floor gives way under her.", "shock: 2+8 wide9 jaw6 stretch6 browinner7 browouter7\n"),
    ("A crumb hangs on the left of her lips.", "crumb: 3+5 jaw2 mouthleft4 smileL4 tongue5\nclean: 3+4 smile2\n"),
)
"""For a model that was not trained on keyframe text; a trained one is prompted without them."""

_KEYFRAMEFACE_SYSTEM = (
    "You are a professional facial animator. Generate all 61 ARKit facial parameters for exactly one requested "
    "semantic keyframe. The first 52 blendshapes are in [0,1], and the final 9 head/eye pose parameters are in "
    '[-1,1]. Return strict JSON only in the form {"Keyframe_x":{...}}.'
)
_ORDINALS = ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight")


def messages(request: PromptInput, *, dialect: str = "compact", examples: bool = True) -> list[list[Message]]:
    """The chats that ask for `request`: one for `compact`, one a keyframe for `keyframeface`.

    `examples` explains the notation and shows the few worked examples that an untrained model needs; a model that was
    trained on it, and keyframeface's own models, take none. A text reaches a trained model in plain words: what is
    shouted as `unshouted`, emoji as `named`.
    """
    if dialect == "keyframeface":
        return [_keyframeface(request, i) for i in range(min(len(request.descriptions) or 1, len(_ORDINALS)))]
    chat = [Message("system", [(_SYSTEM if examples else _TRAINED_SYSTEM, False)])]
    if examples:
        for text, answer in _EXAMPLES:
            chat += [Message("user", [(text, False)]), Message("assistant", [(answer, False)])]
    pieces: Prompt = [(request.text if examples else named(unshouted(request.text)), True)]
    for title, value in (("Background", request.background), ("Emotion", request.emotion)):
        if value:
            pieces += [(f"\n{title}: ", False), (value, True)]
    for description in request.descriptions:
        pieces += [("\n- ", False), (description, True)]
    return [[*chat, Message("user", pieces)]]


def unshouted(text: str) -> str:
    """A text that is all in capitals in small letters, with an exclamation mark; any other as it is.

    In capitals a text is many more tokens, of which a small model has seen few.
    """
    if text.lower() == text or text.upper() != text or len(_LETTER.findall(text)) < 6:
        return text
    return text.lower() + ("" if text.rstrip().endswith(("!", "?")) else "!")


_LETTER = re.compile(r"[^\W\d_]")


def named(text: str) -> str:
    """A text with its emoji in words, each in the place where it stands first, and up to four of them.

    A small model knows what "(face with rolling eyes)" means, of bytes that are seldom in a text it does not. The words
    are the names that Unicode gives; what has none stays as it is.
    """
    found: list[str] = []

    def name(match: re.Match[str]) -> str:
        known = unicodedata.name(match[0][0], "").lower()
        if not known:
            return match[0]
        words = re.sub(r"^(heavy |black |white )+", "", known) if match[0][0] < "\U0001f000" else known
        if words in found or len(found) == _NAMED:
            return ""
        found.append(words)
        return f" ({words}) "

    said = _EMOJI.sub(name, text)
    return re.sub(r" {2,}", " ", said).strip() if said != text else text


_NAMED = 4
_EMOJI = re.compile("[\u2600-\u27bf\U0001f300-\U0001faff](?:[\ufe0e\ufe0f\u200d]|[\U0001f3fb-\U0001f3ff])*")
"""A symbol with what alters its looks or its skin."""


def _keyframeface(request: PromptInput, number: int) -> list[Message]:
    """The released KeyframeFace request for keyframe `number`, from 0 (its example.jsonl)."""
    pieces: Prompt = [("Keyframe Description Sequence:", False)]
    for ordinal, description in zip(_ORDINALS, request.descriptions or (request.text,), strict=False):
        pieces += [(f"\n- Keyframe {ordinal}: ", False), (description, True)]
    pieces += [
        ("\n\nBackground: ", False),
        (request.background or request.text, True),
        ("\nEmotion: ", False),
        (request.emotion or request.text, True),
        (
            f"\n\nTask Instruction: Generate the facial expression parameters for Keyframe {_ORDINALS[number]}.",
            False,
        ),
    ]
    return [Message("system", [(_KEYFRAMEFACE_SYSTEM, False)]), Message("user", pieces)]


_MARK = "\ue000{}\ue001"
_MARKED = re.compile("\ue000(\\d+)\ue001")


def render(chat: list[Message], template: str, *, bos: str = "", eos: str = "") -> Prompt:
    """The prompt of a chat through a model's Jinja template; a thinking mode is switched off.

    The template sees a placeholder where the user's text goes, so no template can look into it or alter it. For a
    template that knows no system role the system text opens the first message of the user.

    Raises:
        DecodeError: the template is not valid, or drops or doubles a piece of the user's text.
    """
    try:
        return _render(chat, template, bos, eos)
    except DecodeError:
        if chat[0].role != "system" or len(chat) < 2:
            raise
        first = Message(chat[1].role, [*chat[0].pieces, ("\n\n", False), *chat[1].pieces])
        return _render([first, *chat[2:]], template, bos, eos)


def _render(chat: list[Message], template: str, bos: str, eos: str) -> Prompt:
    users: list[str] = []

    def content(pieces: Prompt) -> str:
        shown = ""
        for text, is_user in pieces:
            shown += _MARK.format(len(users)) if is_user else text
            if is_user:
                users.append(text)
        return shown

    shown = [{"role": message.role, "content": content(message.pieces)} for message in chat]
    try:
        text = (
            _environment()
            .from_string(template)
            .render(messages=shown, add_generation_prompt=True, enable_thinking=False, bos_token=bos, eos_token=eos)
        )
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DecodeError(f"the model's chat template cannot be used: {error}") from None
    prompt: Prompt = []
    order = []
    for i, piece in enumerate(_MARKED.split(text)):
        if i % 2:
            order.append(int(piece))
            prompt.append((users[int(piece)], True))
        elif piece:
            prompt.append((piece, False))
    if order != list(range(len(users))):
        raise DecodeError("the model's chat template drops or reorders the text")
    return prompt


def _environment() -> ImmutableSandboxedEnvironment:
    # The same settings as transformers' apply_chat_template, so that both sides see one prompt.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment.globals["raise_exception"] = raise_exception
    return environment


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\\n' }}"  # quoted, since Jinja cuts a newline off the end of a template
)
"""For a GGUF that carries no template."""

_MARKERS = re.compile(r"<\|?[^<>\s]{0,40}\|?>|\[/?(?:INST|SYS[A-Z_]*)\]|<<?/?SYS>>?")


def neutralise(text: str) -> str:
    """User text for a server that only takes strings: template markers lose their brackets.

    A best effort, unlike the token ids of the local engine: what a remote template makes of a text is its own.
    """
    bare, count = text, 1
    while count:  # what is left of one marker may complete another: <|im_<>end|>
        bare, count = _MARKERS.subn(lambda match: match[0].strip("<>[]").replace("|", " "), bare)
    return bare
