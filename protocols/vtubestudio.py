"""VTube Studio's public API without the wire: its messages, and every error in words.

Read from DenchiSoft/VTubeStudio's README and ErrorID.cs. A request is a JSON object with an id, its answer carries the
same id; answers come in any order.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from kff_live.protocols.errors import DecodeError

API_NAME, API_VERSION = "VTubeStudioPublicAPI", "1.0"
DEFAULT_PORT = 8001
DISCOVERY_PORT = 47779
"""Where VTube Studio broadcasts its state every two seconds, also while its API is off."""

PLUGIN, DEVELOPER = "kff-live", "kff-live"
"""Who asks. A token is valid for these very bytes: change one, and every user is asked again."""

MESSAGES = {
    0: "VTube Studio failed over this request; look into its log",
    1: "plugins are switched off: in VTube Studio's settings turn on 'Start API (allow plugins)'",
    2: "VTube Studio could not read the request",
    3: "VTube Studio does not know this API",
    4: "VTube Studio speaks another version of the API; update it",
    5: "VTube Studio refused the request's id",
    6: "VTube Studio found no type in the request",
    7: "VTube Studio does not know this request; update it",
    8: "the connection is not allowed yet",
    50: "the user has not allowed kff-live, or no longer does: see VTube Studio's list of plugins",
    51: "VTube Studio is already asking the user about a plugin: answer its window",
    52: "VTube Studio refused the plugin's name",
    53: "VTube Studio refused the developer's name",
    54: "VTube Studio refused the plugin's icon",
    100: "VTube Studio found no token in the request",
    101: "VTube Studio found no plugin name in the request",
    102: "VTube Studio found no developer in the request",
    200: "too many hotkeys wait in VTube Studio",
    201: "no model is loaded in VTube Studio, so there is no hotkey to press",
    202: "the model has no such hotkey: look at its name in VTube Studio",
    203: "the hotkey was pressed a moment ago and rests",
    204: "the hotkey is not set up: its file is missing",
    205: "VTube Studio cannot press hotkeys now; close its windows",
    206: "the hotkey failed in VTube Studio",
    207: "there is no such Live2D item",
    208: "Live2D items cannot do what this hotkey does",
    350: "VTube Studio refused the parameter's name; choose another prefix",
    351: "VTube Studio refused the parameter's range",
    352: "another plugin has a parameter of this name; choose another prefix",
    353: "VTube Studio refused the parameter's description",
    354: "VTube Studio has a parameter of this name itself; choose another prefix",
    355: "kff-live has 100 parameters already, VTube Studio allows no more; remove those of an old prefix",
    356: "VTube Studio holds 300 parameters of plugins and allows no more; remove a plugin there",
    450: "the request held no values",
    451: "VTube Studio refused a value",
    452: "VTube Studio refused a weight",
    453: "VTube Studio does not know one of the parameters, and then takes none of them",
    454: "another plugin sets one of the parameters; stop it, or use mode = \"add\"",
    455: "VTube Studio does not know the mode",
    600: "that is no name of an expression file",
    601: "the model has no such expression file",
    650: "that is no name of an expression file: it must end in .exp3.json",
    651: "the model has no such expression file: look into its folder",
    652: "no model is loaded in VTube Studio, so there is no expression to show",
}  # fmt: skip
"""What its error ids mean for a user; every one that a request of ours can bring."""

DENIED, ASKING, UNKNOWN_PARAMETER = 50, 51, 453
NOT_ALLOWED = 8


class Refusal(DecodeError):
    """VTube Studio did not do what was asked; `id` is its error id."""

    def __init__(self, error_id: int, message: str) -> None:
        self.id = error_id
        meaning = MESSAGES.get(error_id, "VTube Studio refused")
        super().__init__(f"{meaning} (error {error_id}: {message})" if message else f"{meaning} (error {error_id})")


class Answer(msgspec.Struct):
    """A message from VTube Studio; `requestID` is that of the request, fields that we do not know are ignored."""

    messageType: str = ""
    requestID: str = ""
    data: dict[str, Any] = {}

    @property
    def refusal(self) -> Refusal | None:
        """What was refused, if it is that."""
        if self.messageType != "APIError":
            return None
        error_id, message = self.data.get("errorID"), self.data.get("message")
        return Refusal(error_id if isinstance(error_id, int) else -1, str(message or ""))


_ANSWER = msgspec.json.Decoder(Answer)


def decode(text: str | bytes) -> Answer:
    """The message in a JSON text.

    Raises:
        DecodeError: it is none.
    """
    try:
        return _ANSWER.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise DecodeError(f"VTube Studio sent what is no message: {error}") from None


def request(kind: str, request_id: str, data: Mapping[str, Any] | None = None) -> str:
    """The JSON text of the request `<kind>Request`."""
    message = {
        "apiName": API_NAME,
        "apiVersion": API_VERSION,
        "requestID": request_id,
        "messageType": f"{kind}Request",
        "data": data or {},
    }
    return msgspec.json.encode(message).decode()


def plugin(token: str = "") -> dict[str, str]:
    """Who we are: for AuthenticationTokenRequest, and with the token for AuthenticationRequest."""
    who = {"pluginName": PLUGIN, "pluginDeveloper": DEVELOPER}
    return who | {"authenticationToken": token} if token else who


class Broadcast(msgspec.Struct):
    """What VTube Studio says of itself on DISCOVERY_PORT; `active` is false while its API is off."""

    active: bool
    port: int
    windowTitle: str = ""


def decode_broadcast(data: bytes) -> Broadcast | None:
    """The state in a datagram; None where it is not VTube Studio's."""
    try:
        answer = decode(data)
        return msgspec.convert(answer.data, Broadcast) if answer.messageType == "VTubeStudioAPIStateBroadcast" else None
    except (DecodeError, msgspec.ValidationError):
        return None


class _Named(msgspec.Struct):
    name: str


class _ParameterList(msgspec.Struct):
    defaultParameters: list[_Named] = []


def default_names(data: Mapping[str, Any]) -> frozenset[str]:
    """The names of VTube Studio's own parameters in the answer to InputParameterListRequest.

    Raises:
        DecodeError: it is no such answer.
    """
    try:
        return frozenset(parameter.name for parameter in msgspec.convert(data, _ParameterList).defaultParameters)
    except msgspec.ValidationError as error:
        raise DecodeError(f"VTube Studio sent no list of parameters: {error}") from None


def match(label: str, table: Mapping[str, str]) -> str | None:
    """The value of the first key all of whose words are in a keyframe's label, in any case; None if there is none."""
    words = set(re.findall(r"\w+", label.casefold()))
    for key, value in table.items():
        wanted = re.findall(r"\w+", key.casefold())
        if wanted and words.issuperset(wanted):
            return value
    return None
