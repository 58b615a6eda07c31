"""The service API through the unmodified azure-iothub-provisioningserviceclient."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from provisioningserviceclient import (
    ProvisioningServiceClient,
    ProvisioningServiceError,
    QuerySpecification,
)
from provisioningserviceclient.client import (
    BULKOP_CREATE,
    BULKOP_DELETE,
    BULKOP_UPDATE,
    BULKOP_UPDATE_IF_MATCH_ETAG,
)
from provisioningserviceclient.models import (
    AttestationMechanism,
    BulkEnrollmentOperation,
    DeviceCapabilities,
    EnrollmentGroup,
    IndividualEnrollment,
    InitialTwin,
)

from edgekit_sim.dps.attestation import derive_key
from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle, start_hub
from tests.edgekit_sim.dps.clients import Api, Device

Client = ProvisioningServiceClient
KEYS = AttestationMechanism(type="symmetricKey")


def individual(registration_id: str, **settings: Any) -> IndividualEnrollment:
    return IndividualEnrollment.create(registration_id, KEYS, **settings)


def group(group_id: str) -> EnrollmentGroup:
    return EnrollmentGroup.create(group_id, KEYS)


def status_of(call: Callable[..., Any], *arguments: Any) -> tuple[int, int]:
    """HTTP status and error number of a call that is refused."""
    with pytest.raises(ProvisioningServiceError) as caught:
        call(*arguments)
    cause = caught.value.cause
    return cause.response.status_code, cause.error.error_code


# ---- individual enrolments


def test_create_and_read(dps: Client) -> None:
    made = dps.create_or_update(
        individual(
            "read-1",
            device_id="cam-1",
            initial_twin=InitialTwin.create({"a": 1}, {"b": 2}),
            device_capabilities=DeviceCapabilities.create(iot_edge=True),
        )
    )
    read = dps.get_individual_enrollment("read-1")
    assert (read.registration_id, read.device_id, read.etag) == ("read-1", "cam-1", made.etag)
    assert read.initial_twin.tags == {"a": 1}
    assert read.initial_twin.desired_properties == {"b": 2}
    assert read.capabilities.iot_edge is True
    assert read.provisioning_status == "enabled"
    assert read.registration_state.status == "unassigned"
    assert read.created_date_time_utc == read.last_updated_date_time_utc


def test_keys_are_shown_only_where_they_are_asked_for(dps: Client) -> None:
    made = dps.create_or_update(individual("keys-1"))
    read = dps.get_individual_enrollment("keys-1")
    shown = dps.get_individual_enrollment_attestation_mechanism("keys-1")
    assert read.attestation.symmetric_key is None
    assert shown.symmetric_key.primary_key == made.attestation.symmetric_key.primary_key


def test_what_is_read_can_be_changed_and_written_back(dps: Client) -> None:
    made = dps.create_or_update(individual("change-1"))
    read = dps.get_individual_enrollment("change-1")
    read.provisioning_status = "disabled"
    changed = dps.create_or_update(read)
    kept = dps.get_individual_enrollment_attestation_mechanism("change-1").symmetric_key
    assert changed.provisioning_status == "disabled"
    assert changed.etag != made.etag
    assert kept.primary_key == made.attestation.symmetric_key.primary_key


def test_ids_do_not_tell_cases_apart(dps: Client) -> None:
    dps.create_or_update(individual("Case-1"))
    assert dps.get_individual_enrollment("cAsE-1").registration_id == "Case-1"


def test_creating_twice_is_a_conflict(dps: Client) -> None:
    dps.create_or_update(individual("twice"))
    assert status_of(dps.create_or_update, individual("twice")) == (409, 409201)


def test_a_stale_copy_is_refused(dps: Client) -> None:
    stale = dps.create_or_update(individual("stale"))
    fresh = dps.get_individual_enrollment("stale")
    fresh.device_id = "newer"
    dps.create_or_update(fresh)
    assert status_of(dps.create_or_update, stale) == (412, 412001)
    assert status_of(dps.delete, stale) == (412, 412001)
    assert dps.get_individual_enrollment("stale").device_id == "newer"


def test_delete(dps: Client) -> None:
    dps.delete(dps.create_or_update(individual("gone-1")))
    dps.create_or_update(individual("gone-2"))
    dps.delete_individual_enrollment_by_param("gone-2")
    for name in ("gone-1", "gone-2"):
        assert status_of(dps.get_individual_enrollment, name) == (404, 404201)
        mechanism = dps.get_individual_enrollment_attestation_mechanism
        assert status_of(mechanism, name) == (404, 404201)
        assert status_of(dps.delete_individual_enrollment_by_param, name) == (404, 404201)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"attestation": {"type": "magic"}},
        {"attestation": {"type": "tpm", "tpm": {"endorsementKey": "AA=="}}},
        {"attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "short"}}},
        {"attestation": {"type": "x509"}},
        {"attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {}}}}},
        {
            "attestation": {
                "type": "x509",
                "x509": {"clientCertificates": {"primary": {"certificate": "bm9uZQ=="}}},
            }
        },
        {"registrationId": "other", "attestation": {"type": "symmetricKey"}},
        {"provisioningStatus": "maybe", "attestation": {"type": "symmetricKey"}},
        {"deviceId": "no spaces", "attestation": {"type": "symmetricKey"}},
        {"initialTwin": {"tags": {"a.b": 1}}, "attestation": {"type": "symmetricKey"}},
        {"allocationPolicy": "best", "attestation": {"type": "symmetricKey"}},
        {"allocationPolicy": "static", "attestation": {"type": "symmetricKey"}},
        {"allocationPolicy": "custom", "attestation": {"type": "symmetricKey"}},
        {"iotHubs": "one", "attestation": {"type": "symmetricKey"}},
        {"capabilities": "edge", "attestation": {"type": "symmetricKey"}},
    ],
)
def test_a_bad_enrollment_is_refused_and_not_kept(api: Api, document: Any) -> None:
    status, error, _ = api.call("PUT", "/enrollments/bad", document)
    assert (status, error["errorCode"]) == (400, 400004)
    assert sorted(error) == ["errorCode", "message", "timestampUtc", "trackingId"]
    assert api.call("GET", "/enrollments/bad")[0] == 404


@pytest.mark.parametrize("name", ["ends-in.", "%20", "a" * 129, "a%2Fb", "%C3%A4"])
def test_a_bad_registration_id_is_refused(api: Api, name: str) -> None:
    document = {"attestation": {"type": "symmetricKey"}}
    assert api.call("PUT", f"/enrollments/{name}", document)[0] == 400


# ---- groups


def test_groups(dps: Client) -> None:
    made = dps.create_or_update(group("hall-1"))
    read = dps.get_enrollment_group("hall-1")
    keys = dps.get_enrollment_group_attestation_mechanism("hall-1").symmetric_key
    assert (read.enrollment_group_id, read.etag) == ("hall-1", made.etag)
    assert keys.secondary_key == made.attestation.symmetric_key.secondary_key
    assert status_of(dps.create_or_update, group("hall-1")) == (409, 409201)
    dps.delete(made)
    dps.create_or_update(group("hall-2"))
    dps.delete_enrollment_group_by_param("hall-2")
    assert status_of(dps.get_enrollment_group, "hall-1") == (404, 404202)
    assert status_of(dps.get_enrollment_group_attestation_mechanism, "hall-1") == (404, 404202)
    assert status_of(dps.delete_enrollment_group_by_param, "hall-2") == (404, 404202)


def test_a_group_takes_no_client_certificates(api: Api) -> None:
    attestation = {"type": "x509", "x509": {"clientCertificates": {"primary": {"info": {}}}}}
    status, error, _ = api.call("PUT", "/enrollmentGroups/bad", {"attestation": attestation})
    assert (status, error["errorCode"]) == (400, 400004)


# ---- bulk operations


def test_bulk_operations(dps: Client) -> None:
    names = [f"bulk-{number}" for number in range(3)]
    created = dps.run_bulk_operation(
        BulkEnrollmentOperation(BULKOP_CREATE, [individual(name) for name in names])
    )
    first, second, third = map(dps.get_individual_enrollment, names)
    second.etag, third.device_id = '"stale"', "new-id"
    updated = dps.run_bulk_operation(
        BulkEnrollmentOperation(BULKOP_UPDATE_IF_MATCH_ETAG, [first, second, third])
    )
    (error,) = updated.errors
    assert created.is_successful is True
    assert updated.is_successful is False
    assert (error.registration_id, error.error_code) == ("bulk-1", 412001)
    assert dps.get_individual_enrollment("bulk-2").device_id == "new-id"
    forced = dps.run_bulk_operation(BulkEnrollmentOperation(BULKOP_UPDATE, [second]))
    gone = [individual(name) for name in names]
    deleted = dps.run_bulk_operation(BulkEnrollmentOperation(BULKOP_DELETE, gone))
    again = dps.run_bulk_operation(BulkEnrollmentOperation(BULKOP_DELETE, gone))
    assert (forced.is_successful, deleted.is_successful) == (True, True)
    assert [error.error_code for error in again.errors] == [404201] * 3


def test_bulk_takes_ten_at_the_most(dps: Client) -> None:
    many = [individual(f"many-{number}") for number in range(11)]
    operation = BulkEnrollmentOperation(BULKOP_CREATE, many)
    assert status_of(dps.run_bulk_operation, operation) == (400, 400004)
    assert status_of(dps.get_individual_enrollment, "many-0") == (404, 404201)


def test_an_unknown_bulk_mode_is_refused(dps: Client) -> None:
    operation = BulkEnrollmentOperation("replace", [individual("mode")])
    assert status_of(dps.run_bulk_operation, operation) == (400, 400004)


# ---- queries


@pytest.fixture
def alone() -> Iterator[HubHandle]:
    """A service of its own, for tests that count everything in it."""
    with start_hub() as hub, pytest.MonkeyPatch.context() as environment:
        environment.setenv("REQUESTS_CA_BUNDLE", hub.ca_file)
        yield hub


def pages(query: Any, field: str) -> list[list[str]]:
    found = []
    while query.has_next:
        found.append([getattr(item, field) for item in query.next()])
    return found


def test_queries_come_in_pages(alone: HubHandle) -> None:
    dps = Client.create_from_connection_string(alone.dps_service_connection_string)
    for number in range(5):
        dps.create_or_update(individual(f"q-{number}"))
        dps.create_or_update(group(f"g-{number}"))
    spec = QuerySpecification("SELECT * FROM enrollments")
    one = dps.create_individual_enrollment_query(spec, page_size=2)
    two = dps.create_enrollment_group_query(QuerySpecification("select *"), page_size=4)
    all_at_once = dps.create_individual_enrollment_query(spec)
    assert pages(one, "registration_id") == [["q-0", "q-1"], ["q-2", "q-3"], ["q-4"]]
    assert pages(two, "enrollment_group_id") == [["g-0", "g-1", "g-2", "g-3"], ["g-4"]]
    assert [len(page) for page in pages(all_at_once, "registration_id")] == [5]


def test_bad_queries(dps: Client, api: Api) -> None:
    bad = dps.create_individual_enrollment_query(QuerySpecification("DELETE FROM enrollments"))
    assert status_of(bad.next) == (400, 400004)
    document = {"query": "SELECT *"}
    for headers in ({"x_ms_continuation": "!"}, {"x_ms_max_item_count": "0"}):
        assert api.call("POST", "/enrollments/query", document, **headers)[0] == 400


# ---- registration states


def test_registration_states(iothub: HubHandle, dps: Client, api: Api) -> None:
    Device(iothub, "state-1", api.enroll("state-1")).register()
    state = dps.get_registration_state("state-1")
    assert (state.status, state.substatus) == ("assigned", "initialAssignment")
    assert (state.assigned_hub, state.device_id) == (iothub.gateway, "state-1")
    assert dps.get_individual_enrollment("state-1").registration_state.etag == state.etag
    stale = status_of(dps.delete_registration_state_by_param, "state-1", '"stale"')
    assert stale == (412, 412001)
    dps.delete(state)
    assert status_of(dps.get_registration_state, "state-1") == (404, 404203)
    assert status_of(dps.delete_registration_state_by_param, "state-1") == (404, 404203)
    assert iothub.request("GET", "/devices/state-1")["status"] == "enabled"


def test_registration_states_of_a_group(iothub: HubHandle, api: Api) -> None:
    key = api.enroll_group("fleet")
    for number in range(3):
        name = f"fleet-{number}"
        Device(iothub, name, derive_key(key, name)).register()
    status, first, headers = api.call("POST", "/registrations/fleet/query", x_ms_max_item_count="2")
    token = headers["x-ms-continuation"]
    _, rest, last = api.call("POST", "/registrations/fleet/query", x_ms_continuation=token)
    names = [state["registrationId"] for state in first + rest]
    assert (status, names) == (200, ["fleet-0", "fleet-1", "fleet-2"])
    assert headers["x-ms-item-type"] == "deviceRegistration"
    assert "x-ms-continuation" not in last
    assert api.call("POST", "/registrations/nowhere/query")[0] == 404


def test_deleting_a_group_forgets_its_registrations(iothub: HubHandle, api: Api) -> None:
    key = api.enroll_group("short")
    Device(iothub, "short-1", derive_key(key, "short-1")).register()
    api.call("DELETE", "/enrollmentGroups/short")
    assert api.call("GET", "/registrations/short-1")[0] == 404
    assert iothub.request("GET", "/devices/short-1")["deviceId"] == "short-1"


# ---- shared access policies


def policy(iothub: HubHandle, api: Api, name: str) -> Api:
    _, policies, _ = api.call("GET", "/edgekit/dps/policies")
    key = next(one["primaryKey"] for one in policies if one["keyName"] == name)
    return Api(iothub, name, key)


@pytest.mark.parametrize(
    ("name", "method", "path", "expected"),
    [
        ("enrollmentRead", "GET", "/enrollments/policy", 404),
        ("enrollmentRead", "PUT", "/enrollments/policy", 403),
        ("enrollmentRead", "DELETE", "/enrollments/policy", 403),
        ("enrollmentRead", "POST", "/enrollments", 403),
        ("enrollmentRead", "POST", "/enrollments/policy/attestationmechanism", 403),
        ("enrollmentRead", "GET", "/registrations/policy", 403),
        ("enrollmentReadWrite", "DELETE", "/enrollmentGroups/policy", 404),
        ("enrollmentReadWrite", "GET", "/edgekit/dps/linkedHubs", 403),
        ("registrationRead", "GET", "/registrations/policy", 404),
        ("registrationRead", "DELETE", "/registrations/policy", 403),
        ("registrationRead", "GET", "/enrollments/policy", 403),
        ("registrationRead", "POST", "/enrollments/query", 403),
    ],
)
def test_policies(
    iothub: HubHandle, api: Api, name: str, method: str, path: str, expected: int
) -> None:
    assert policy(iothub, api, name).call(method, path)[0] == expected


def test_bad_tokens_are_refused(iothub: HubHandle, api: Api) -> None:
    other_host = tokens.sign("elsewhere.example", api._key, 2**31, api._policy)
    bad = {
        "expired": api.token(-5),
        "no token": "Bearer x",
        "another key": Api(iothub, key=tokens.new_key()).token(),
        "unknown policy": Api(iothub, policy="nobody").token(),
        "another host": other_host,
        "the hub's owner": Api(iothub, policy="iothubowner").token(),
    }
    answers = {
        name: api.call("GET", "/enrollments/any", token=token)[:2] for name, token in bad.items()
    }
    found = {name: (status, error["errorCode"]) for name, (status, error) in answers.items()}
    assert found == dict.fromkeys(bad, (401, 401002))
