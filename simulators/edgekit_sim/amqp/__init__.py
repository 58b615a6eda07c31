"""A small AMQP 1.0 engine: the server's side, for simulators of services that speak it.

- types, decode, encode: the type system (part 1 of the OASIS standard)
- composites: performatives, outcomes, termini, SASL frames
- frames: cutting and writing frames
- message: the sections of a message
- connection, sessions, links: the state machines; bytes in, `events` and bytes out
- sasl: ANONYMOUS, EXTERNAL, PLAIN, MSSBCBS
- endpoint: the same on an asyncio transport
"""
