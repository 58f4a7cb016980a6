"""The only place where bytes become domain values and back."""

from libs.wire.codec import Encoded, decode, decode_any, encode, kind_of, topic_of
from libs.wire.errors import DecodeError, EncodeError

__all__ = ["DecodeError", "EncodeError", "Encoded", "decode", "decode_any", "encode", "kind_of", "topic_of"]
