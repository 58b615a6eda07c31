"""Layers that go up while they are written, against the simulator's registry and Debian's."""

from contextlib import closing

import pytest

from edgekit.errors import Corrupt, OciError
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.image import NamedLayer, Settings, put_image
from edgekit.oci.layer import Entry, PinnedFile, file_digest, write_layer
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import Ahead, pull

from .conftest import AMD64
from .test_hostile import answer, answering

CONTENT = bytes(range(256)) * 5000


@pytest.fixture
def reference(registry):
    return Reference.parse(f"{registry}/edge/digits:1")


def image_of(blobs, ahead):
    """An image whose only layer is followed."""
    layer = write_layer([Entry("model", content=CONTENT)], blobs, "none", follow=ahead.follow)
    return layer, put_image(blobs, AMD64, Settings(), [NamedLayer(layer, "model")])


def test_a_layer_is_there_before_the_push_ends_with_the_rest(blobs, reference, tmp_path):
    with RegistryClient(reference) as client, Ahead(reference, client) as ahead:
        layer, root = image_of(blobs, ahead)
        assert ahead.sent(layer.descriptor.digest) == layer.descriptor.size
        assert client.has_blob(reference.name, layer.descriptor.digest)
        pushed = ahead.finish(blobs, root)

        config = pull(reference, Blobs(tmp_path / "pulled"), AMD64, client).manifest.config
        assert pushed.bytes_uploaded == layer.descriptor.size + config.size + root.size
        assert (pushed.blobs_uploaded, pushed.blobs_present) == (2, 0)


def test_an_image_that_is_there_is_not_pushed(blobs, reference):
    for expected in (True, False):
        with RegistryClient(reference) as client, Ahead(reference, client) as ahead:
            root = put_image(blobs, AMD64, Settings(), [])
            assert bool(ahead.finish(blobs, root).bytes_uploaded) == expected


def test_a_blob_that_turns_out_to_be_there_does_not_go_on(blobs, reference):
    with RegistryClient(reference) as client:
        sent = []
        for _ in range(2):
            # all is written before the first byte goes, so that it is known by then
            with blobs.writer() as writer:
                follower = writer.follow()
                writer.write(CONTENT)
            with closing(follower):
                sent.append(client.put_blob_while_written(reference.name, follower))
        assert sent == [len(CONTENT), 0]
        assert client.has_blob(reference.name, writer.digest)


def test_a_layer_that_fails_goes_nowhere(blobs, reference, tmp_path):
    model = tmp_path / "model"
    model.write_bytes(CONTENT)
    pinned = PinnedFile(model, file_digest(model))
    model.write_bytes(CONTENT[::-1])
    writers = []
    with RegistryClient(reference) as client:
        with Ahead(reference, client) as ahead, pytest.raises(Corrupt, match="is not sha256:"):
            write_layer(
                [Entry("model", content=pinned)],
                blobs,
                "none",
                follow=lambda writer: (writers.append(writer), ahead.follow(writer)),
            )
        (writer,) = writers
        assert ahead.sent(writer.digest) is None
        assert not client.has_blob(reference.name, writer.digest)


def test_what_did_not_go_while_it_was_written_goes_with_the_push(blobs):
    arrived = []

    def respond(handler, _count):
        if handler.command == "PATCH":  # a registry that wants to know a length, or a broken line
            handler.close_connection = True
            handler.connection.close()
            return
        if handler.command == "PUT" and "/blobs/" in handler.path:
            arrived.append(handler.path.partition("digest=")[2])
        status = {"HEAD": 404, "POST": 202, "PUT": 201}[handler.command]
        answer(handler, status, Location="/v2/edge/blobs/uploads/1")

    with (
        answering(respond) as (_server, reference),
        RegistryClient(reference, backoff=0) as client,
        Ahead(reference, client) as ahead,
    ):
        layer, root = image_of(blobs, ahead)
        assert ahead.sent(layer.descriptor.digest) is None
        assert ahead.finish(blobs, root).blobs_uploaded == 2
    assert layer.descriptor.digest in arrived


def test_a_follower_reads_what_is_written_as_often_as_it_is_asked(blobs):
    with blobs.writer() as writer:
        follower = writer.follow()
        pieces = iter(follower)
        for piece in (b"first", b"second"):
            writer.write(piece)
            assert next(pieces) == piece
    with closing(follower):
        assert list(pieces) == []
        assert b"".join(follower) == b"firstsecond"


def test_a_follower_of_what_becomes_no_blob_is_told_so(blobs):
    followers = []
    lost = PinnedFile(blobs.folder / "lost", "sha256:0")
    with pytest.raises(OciError, match="cannot read data"):
        write_layer(
            [Entry("data", content=lost)],
            blobs,
            follow=lambda writer: followers.append(writer.follow()),
        )
    (follower,) = followers
    with closing(follower), pytest.raises(Corrupt, match="not finished"):
        list(follower)
