"""Message routing: which messages go to which endpoints, and with what they are stamped.

- configuration: routes, endpoints, enrichments and the fallback route, as a user writes them
- conditions: a route's condition over a message, its body and its sender's twin
- router: takes each message to its endpoints
- archive: the messages that wait to be written to blobs, and who writes them
- records: messages in the formats of those blobs
- file: a routing section in a file
- trial: what routes would do with a message, without one
"""
