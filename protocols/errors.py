"""Every error that kff-live raises on purpose, in one tree.

KffError
├── EncodeError       ours: what we were asked to send cannot be expressed in the format
├── DecodeError       theirs: what arrived does not follow the format
├── UserError         the user's: a file, an option or a setting; one line, exit status 2
│   └── ConfigError   a key of config.toml
└── GeneratorError    the language model could not answer; the message says why
    └── GeneratorDied its process or server went away in mid-answer; worth one retry
"""


class KffError(Exception):
    """The root; catch it where any of ours is to be reported, never to be ignored."""


class EncodeError(KffError):
    """Our caller's fault: the value cannot be expressed in the format."""


class DecodeError(KffError):
    """The sender's fault: the bytes or text do not follow the format."""


class UserError(KffError):
    """The user's mistake; the message says what, where and what to do."""


class ConfigError(UserError):
    """A key of config.toml; the message begins with the key's path."""


class GeneratorError(KffError):
    """The generator could not answer this text."""


class GeneratorDied(GeneratorError):
    """The generator went away while it answered; the same text may be tried once more."""
