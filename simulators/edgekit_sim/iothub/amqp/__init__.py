"""A small AMQP 1.0 engine: as much as uamqp and azure-eventhub speak with an IoT Hub.

- types: the type system, bytes to values and back (part 1 of the OASIS standard)
- messages: the sections of a message (part 3)
- connection: SASL, sessions, links, flow and transfers (parts 2 and 5)
- nodes: what a link can be attached to: tokens, management, events, commands, feedback
"""
