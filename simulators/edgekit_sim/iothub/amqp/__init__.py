"""The hub's AMQP front: what azure-eventhub and uamqp find behind an address.

- nodes: all addresses, and a connection of each client
- client: one connected client: its claims and its links
- exchange: requests and responses, `$cbs` and `$management`
- receivers, selectors, event_messages: the Event Hubs compatible endpoint
- commands, notifications: cloud-to-device messages, feedback and file notifications
"""
