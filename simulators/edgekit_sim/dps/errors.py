"""What the provisioning service refuses, with its status, its number and its words.

The real service answers `{"errorCode", "trackingId", "message", "timestampUtc"}`; the number is the
HTTP status followed by three digits. Numbers seen in answers of the real service are 401002,
404201, 404202 and 400207; it documents no list, so the others here follow its scheme.
"""


class ProvisioningFault(Exception):
    """A request that is refused.

    Args:
        code: the service's error number; its first three digits are the HTTP status.
        message: what was wrong, one line.
        retry_after: seconds after which the client may try again; 0 says nothing about it.
    """

    def __init__(self, code: int, message: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.code // 1000


BAD_REQUEST = 400004
ALLOCATION_FAILED = 400207
NO_HUB = 400208
UNAUTHORIZED = 401002
FORBIDDEN = 403002
ENROLLMENT_NOT_FOUND = 404201
GROUP_NOT_FOUND = 404202
REGISTRATION_NOT_FOUND = 404203
OPERATION_NOT_FOUND = 404204
NOT_FOUND = 404001
CONFLICT = 409201
STALE = 412001
THROTTLED = 429001
HUB_FAILED = 500208
