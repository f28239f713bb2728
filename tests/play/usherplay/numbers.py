# SPDX-License-Identifier: Apache-2.0
"""Every number that a broker tells is below 2^53: each frame that a play reads is looked at."""

from google.protobuf.descriptor import FieldDescriptor

from usherplay.stage import Failed

NUMBER_TOLD_MAX = 2**53 - 1

# What a peer gave itself, and gets back as it was.
THEIRS = {("BrokerFrame", "id"), ("Pong", "stamp"), ("Results", "seq"), ("LineList", "next")}


def check_numbers(message):
    """Walks all of it; gives it back."""
    name = message.DESCRIPTOR.name
    for field, value in message.ListFields():
        values = value if isinstance(value, (list, tuple)) or hasattr(value, "append") else (value,)
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for inner in values:
                check_numbers(inner)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_UINT64 and (name, field.name) not in THEIRS:
            for number in values:
                if number > NUMBER_TOLD_MAX:
                    raise Failed(f"{name}.{field.name} is {number}, which no double holds")
    return message
